"""Sends frames of every kind, and prints the frames that came back as one line of JSON.

Arguments: one JSON object with url, source, headers (pairs), compression, code and reason of the
close frame.
"""

import asyncio
import json
import sys

from websockets.asyncio.client import ClientConnection, connect

from recording import recorder

BIG = bytes(range(256)) * 1024


async def converse(url, source, headers, compression, code, reason):
    frames = []
    async with connect(
        url,
        additional_headers=headers,
        local_addr=(source, 0),
        create_connection=recorder(ClientConnection, frames),
        compression=compression,
        ping_interval=None,
        proxy=None,
        max_size=None,
    ) as socket:
        await socket.send("text: äöü \U0001f3f0")
        await socket.recv()
        await socket.send(b"\x00\x01\xfe\xff")
        await socket.recv()
        await socket.send("")
        await socket.recv()
        await socket.send(["three", "text", "fragments"])
        await socket.recv()
        await socket.send([b"\x01", b"\x02"])
        await socket.recv()
        await socket.send(BIG)
        await socket.recv()
        await (await socket.ping(b"ping payload"))
        await socket.close(code, reason)
        return {"frames": frames, "code": socket.close_code, "reason": socket.close_reason}


print(json.dumps(asyncio.run(asyncio.wait_for(converse(**json.loads(sys.argv[1])), 15))))
