"""Opens one WebSocket with the `websockets` package and prints how that went as one line of JSON.

Arguments: one JSON object with url, source, headers (pairs), timeout (seconds), tls (files with
ca, certificate and key, or null), and stay: whether to wait until the other side ends the session.
"""

import asyncio
import json
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

TEXT = "hello from python"


def context(tls):
    if tls is None:
        return None
    made = ssl.create_default_context(cafile=tls["ca"])
    if tls["certificate"]:
        made.load_cert_chain(tls["certificate"], tls["key"])
    return made


async def session(url, source, headers, timeout, stay, tls=None):
    async with connect(
        url,
        additional_headers=headers,
        local_addr=(source, 0),
        open_timeout=timeout,
        proxy=None,
        ssl=context(tls),
    ) as socket:
        try:
            await socket.send(TEXT)
            echo = await socket.recv()
            if not stay:
                return {"outcome": "admitted", "sent": TEXT, "echo": echo}
            raise RuntimeError(f"unexpected: {await socket.recv()!r}")
        except ConnectionClosed:
            return {"outcome": "closed", "code": socket.close_code, "reason": socket.close_reason}


async def attempt(timeout, **how):
    try:
        return await asyncio.wait_for(session(timeout=timeout, **how), timeout + 5)
    except InvalidStatus as refusal:
        answer = refusal.response
        return {
            "outcome": "rejected",
            "status": answer.status_code,
            "headers": [[name, value] for name, value in answer.headers.raw_items()],
            "body": bytes(answer.body or b"").decode(),
        }
    # Before Python 3.11, these are not the same.
    except (TimeoutError, asyncio.TimeoutError):
        return {"outcome": "unanswered"}


print(json.dumps(asyncio.run(attempt(**json.loads(sys.argv[1])))))
