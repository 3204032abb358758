"""Follows a 401 to the metadata of its route, trades a token for a ticket and opens a session with it.

Arguments: one JSON object with host, port, source, route and token. Prints what it saw as one line of
JSON.
"""

import asyncio
import http.client
import json
import re
import sys
from urllib.parse import urlsplit

from websockets.asyncio.client import connect

TEXT = "hello by ticket"


def ask(to, method, path, headers, body=None):
    connection = http.client.HTTPConnection(to["host"], to["port"], timeout=10, source_address=(to["source"], 0))
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    return answer, answer.read()


async def session(to, ticket):
    url = f"ws://{to['host']}:{to['port']}{to['route']}?room=1&ticket={ticket}"
    async with connect(url, local_addr=(to["source"], 0), proxy=None) as socket:
        await socket.send(TEXT)
        return await socket.recv()


def main(to):
    refused, _ = ask(to, "GET", to["route"], {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    })
    metadata = re.search('resource_metadata="([^"]+)"', refused.headers["WWW-Authenticate"]).group(1)
    _, document = ask(to, "GET", urlsplit(metadata).path, {})
    given, answer = ask(to, "POST", "/tickets", {
        "Authorization": f"Bearer {to['token']}", "Content-Type": "application/json",
    }, json.dumps({"route": to["route"]}))
    ticket = json.loads(answer)["ticket"]
    return {
        "refused": refused.status,
        "metadata": json.loads(document),
        "given": given.status,
        "ticket": ticket,
        "echo": asyncio.run(session(to, ticket)),
    }


print(json.dumps(main(json.loads(sys.argv[1]))))
