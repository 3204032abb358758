"""A WebSocket server that sends every message back in the fragments in which it came, and speaks every
subprotocol.

Arguments: address and port. Prints a line of JSON when it listens, for every opening handshake
(with its headers), and for every connection that has ended (with the frames it received).
"""

import asyncio
import json
import sys

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from recording import recorder


def say(**what):
    print(json.dumps(what), flush=True)


def recorded(*arguments, **options):
    frames = []
    connection = recorder(ServerConnection, frames)(*arguments, **options)
    connection.frames = frames
    return connection


def opened(_connection, request):
    say(
        event="request",
        path=request.path,
        headers=[[name, value] for name, value in request.headers.raw_items()],
    )


async def echo(connection):
    try:
        while True:
            fragments = [fragment async for fragment in connection.recv_streaming()]
            # Sending fragments ends the message with an empty one, and so did the client.
            if len(fragments) > 1 and not fragments[-1]:
                fragments.pop()
            await connection.send(fragments if len(fragments) > 1 else fragments[0])
    except ConnectionClosed:
        await connection.wait_closed()
        say(
            event="closed",
            frames=connection.frames,
            code=connection.close_code,
            reason=connection.close_reason,
        )


async def main(address, port):
    async with serve(
        echo,
        address,
        int(port),
        create_connection=recorded,
        process_request=opened,
        select_subprotocol=lambda _connection, offered: offered[0] if offered else None,
        ping_interval=None,
        max_size=None,
    ) as server:
        say(event="listening")
        await server.serve_forever()


asyncio.run(main(*sys.argv[1:]))
