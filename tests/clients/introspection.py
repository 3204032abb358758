"""An introspection endpoint (RFC 7662), whose behaviour is told on disk.

Arguments: address, port, folder. For each question the file `mode` in the folder says what to do:
`good` answers with the file `answer`, `stall` sends half of it and no more, `truncate` closes then, a
number is a status, `page`, `large` and `bomb` are other bodies. Whoever does not show the secret in the
file `secret`, where it is not empty, gets 401. Prints a line of JSON when it listens and for each
question, before it is answered.
"""

import base64
import gzip
import urllib.parse

from misbehaving import Handler, folder, say, serve

MOST = 1 << 20
LARGE = b'{"active":true,"padding":"' + b"a" * (4 << 20) + b'"}'
# Made once: packing it takes longer than anybody waits for an answer.
BOMB = gzip.compress(b'{"active":true,"padding":"' + b"a" * (16 << 20) + b'"}')


def shown(header):
    """The secret in a header `Authorization: Basic`, as RFC 6749 section 2.3.1 encodes it."""
    pair = base64.b64decode(header.removeprefix("Basic ")).decode()
    return urllib.parse.unquote_plus(pair.partition(":")[2])


class Endpoint(Handler):
    def do_POST(self):
        length = int(self.headers["Content-Length"])
        form = urllib.parse.parse_qs(self.rfile.read(min(length, MOST)).decode())
        mode = (folder / "mode").read_text()
        secret = (folder / "secret").read_text()
        known = not secret or shown(self.headers.get("Authorization", "")) == secret
        status = 401 if not known else int(mode) if mode.isdigit() else 200
        say(event="question", mode=mode, token=form["token"][0], status=status)
        kind, body, more = "application/json", (folder / "answer").read_bytes(), []
        if status != 200:
            body = b""
        elif mode == "page":
            kind, body = "text/html", b"<!DOCTYPE html>\n<title>Sign in</title>\n"
        elif mode == "large":
            body = LARGE
        elif mode == "bomb":
            body = BOMB
            more = [("Content-Encoding", "gzip")]
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for name, value in more:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.deliver(body, mode)


serve(Endpoint)
