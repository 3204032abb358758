"""What the servers that misbehave on demand have in common: each takes its arguments (address, port,
folder, and optionally a certificate and its key for TLS), does what files in the folder say, and prints
lines of JSON.
"""

import json
import pathlib
import socket
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

address, port, folder = sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3])


def say(**what):
    print(json.dumps(what), flush=True)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def deliver(self, body, mode, written=lambda: None):
        """Sends `body`; half of it and no more in the mode `stall`, half and the end in `truncate`."""
        if mode in ("stall", "truncate"):
            body = body[: len(body) // 2]
            self.close_connection = True
        try:
            self.wfile.write(body)
            self.wfile.flush()
            written()
            if mode == "stall":
                # Until the one who asks gives up.
                self.connection.recv(1)
            elif mode == "truncate":
                self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            self.close_connection = True

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    # One who gives up in the middle is what some of the modes are for.
    def handle_error(self, *_):
        pass


def serve(handler):
    server = Server((address, port), handler)
    if len(sys.argv) > 4:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[4], sys.argv[5])
        server.socket = context.wrap_socket(server.socket, server_side=True)
    say(event="listening")
    server.serve_forever()
