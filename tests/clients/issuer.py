"""An issuer of keys, whose behaviour is told on disk.

Arguments: address, port, folder, and optionally a certificate and its key for TLS. For each request
the file `mode` in the folder says what to do, `keys` has the JWK set, `headers` what to say about it
besides, and `metadata` what the issuer says about itself. Prints a line of JSON when it listens and
for each request, before it is answered.
"""

import gzip
import hashlib
import json
import pathlib
import socket
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WELL_KNOWN = ("/.well-known/oauth-authorization-server", "/.well-known/openid-configuration")
REDIRECTS = {
    "redirect-http": "http://keys.test/jwks",
    "redirect-file": "file:///etc/passwd",
    "redirect-loop": "/jwks",
    "redirect-good": "/moved",
}


def say(**what):
    print(json.dumps(what), flush=True)


class Issuer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        mode = (folder / "mode").read_text().strip()
        well_known = self.path.startswith(WELL_KNOWN)
        body = (folder / ("metadata" if well_known else "keys")).read_bytes()
        more = [] if well_known else json.loads((folder / "headers").read_text())
        tag = '"' + hashlib.sha256(body).hexdigest()[:16] + '"'
        known = self.headers.get("If-None-Match")
        status = 200
        if well_known and (not body or (mode == "oidc" and "openid" not in self.path)):
            status = 404
        elif mode.isdigit():
            status = int(mode)
        elif mode in REDIRECTS and self.path != "/moved":
            status = 302
            more = [("Location", REDIRECTS[mode])]
        elif known == tag:
            status = 304
        say(event="request", mode=mode, path=self.path, known=known, status=status)
        if status != 200:
            self.send_response(status)
            for name, value in more:
                self.send_header(name, value)
            if status != 304:
                self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if mode == "page":
            body = b"<!DOCTYPE html>\n<title>Sign in</title>\n"
        elif mode == "garbage":
            body = bytes(range(256)) * 4
        elif mode == "large":
            body = b'{"keys":[' + b" " * (4 << 20) + b"]}"
        elif mode == "bomb":
            body = gzip.compress(b'{"keys":[' + b" " * (64 << 20) + b"]}")
            more = [("Content-Encoding", "gzip")]
        self.send_response(200)
        self.send_header("ETag", tag)
        for name, value in more:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            if mode in ("stall", "truncate"):
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                self.close_connection = True
                if mode == "stall":
                    # Until the client gives up.
                    self.connection.recv(1)
                else:
                    self.connection.shutdown(socket.SHUT_RDWR)
            else:
                self.wfile.write(body)
        except OSError:
            self.close_connection = True

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    # A client that gives up in the middle is what some of the modes are for.
    def handle_error(self, *_):
        pass


address, port, folder = sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3])
server = Server((address, port), Issuer)
if len(sys.argv) > 4:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[4], sys.argv[5])
    server.socket = context.wrap_socket(server.socket, server_side=True)
say(event="listening")
server.serve_forever()
