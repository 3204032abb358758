"""Keeps a session of the `websockets` package open beyond the life of its token.

Arguments: one JSON object with host, port, source, path, token, fresh (a token), by ("request" or
"message"), and other (a token of somebody else, which must not do). Prints what it saw as one line
of JSON.
"""

import asyncio
import http.client
import json
import sys

from websockets.asyncio.client import connect


def post(to, session, token):
    connection = http.client.HTTPConnection(to["host"], to["port"], timeout=10, source_address=(to["source"], 0))
    connection.request("POST", f"/sessions/{session}/token", None, {"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


async def renew(to, socket, token):
    if to["by"] == "request":
        session = socket.response.headers["Gatehouse-Id"]
        return await asyncio.to_thread(post, to, session, token)
    await socket.send(json.dumps({"type": "gatehouse.renew", "token": token}, separators=(",", ":")))
    return json.loads(await socket.recv())


async def main(to):
    url = f"ws://{to['host']}:{to['port']}{to['path']}"
    headers = {"Authorization": f"Bearer {to['token']}"}
    async with connect(url, additional_headers=headers, local_addr=(to["source"], 0), proxy=None) as socket:
        seen = {"warned": json.loads(await socket.recv()) if to["by"] == "message" else None}
        seen["refused"] = await renew(to, socket, to["other"])
        seen["renewed"] = await renew(to, socket, to["fresh"])
        # Until after the end of the first token.
        await asyncio.sleep(to["pause"])
        await socket.send("still here")
        seen["echo"] = await socket.recv()
        return seen


print(json.dumps(asyncio.run(asyncio.wait_for(main(json.loads(sys.argv[1])), 30))))
