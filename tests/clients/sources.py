"""Opens one WebSocket with the `websockets` package, sends messages, and prints what came back.

Arguments: one JSON object with url, source, headers (pairs), protocols and messages. Prints one line of
JSON with the protocol selected, one answer to each message, and the code and the reason of the close frame
if the session was ended.
"""

import asyncio
import json
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

PATIENCE = 15


async def session(url, source, headers, protocols, messages):
    async with connect(
        url,
        additional_headers=headers,
        local_addr=(source, 0),
        subprotocols=protocols or None,
        open_timeout=PATIENCE,
        proxy=None,
    ) as socket:
        told = {"protocol": socket.subprotocol, "answers": [], "code": None, "reason": None}
        try:
            for message in messages:
                await socket.send(message)
                told["answers"].append(await socket.recv())
            if not messages:
                await socket.recv()
        except ConnectionClosed:
            told["code"] = socket.close_code
            told["reason"] = socket.close_reason
        return told


print(json.dumps(asyncio.run(asyncio.wait_for(session(**json.loads(sys.argv[1])), PATIENCE))))
