"""A web server for one list, whose behaviour is told on disk.

Arguments: address, port, folder, and optionally a certificate and its key for TLS. For each request
the file `mode` in the folder says what to do, and `list` has the content. Prints a line of JSON when
it listens and for each request.
"""

import hashlib
import json
import pathlib
import socket
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def say(**what):
    print(json.dumps(what), flush=True)


class Lists(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        mode = (folder / "mode").read_text().strip()
        body = (folder / "list").read_bytes()
        tag = '"' + hashlib.sha256(body).hexdigest()[:16] + '"'
        known = self.headers.get("If-None-Match")
        status = 200
        if mode == "good" and known == tag:
            status = 304
        elif mode in ("404", "500"):
            status = int(mode)
        elif mode == "redirect":
            status = 302
        said = {"event": "request", "mode": mode, "path": self.path, "known": known, "status": status}
        if status != 200:
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "http://lists.test/elsewhere")
            if status != 304:
                self.send_header("Content-Length", "0")
            self.end_headers()
            say(**said)
            return
        if mode == "page":
            body = b"<!DOCTYPE html>\n<title>Sign in</title>\n"
        if mode == "large":
            body = b"# more\n" * 4096
        self.send_response(200)
        if mode in ("good", "large", "stall", "truncate", "page"):
            self.send_header("ETag", tag)
        chunked = mode == "large"
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if chunked:
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        if mode in ("stall", "truncate"):
            body = body[: len(body) // 2]
            self.close_connection = True
        try:
            self.wfile.write(body)
            say(**said)
            if mode == "stall":
                # Until the client gives up.
                self.connection.recv(1)
            elif mode == "truncate":
                self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def log_message(self, *_):
        pass


address, port, folder = sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3])
server = ThreadingHTTPServer((address, port), Lists)
if len(sys.argv) > 4:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[4], sys.argv[5])
    server.socket = context.wrap_socket(server.socket, server_side=True)
say(event="listening")
server.serve_forever()
