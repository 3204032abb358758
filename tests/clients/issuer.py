"""An issuer of keys, whose behaviour is told on disk.

Arguments: address, port, folder, and optionally a certificate and its key for TLS. For each request
the file `mode` in the folder says what to do, `keys` has the JWK set, `headers` what to say about it
besides, and `metadata` what the issuer says about itself. Prints a line of JSON when it listens and
for each request, before it is answered.
"""

import gzip
import hashlib
import json

from misbehaving import Handler, folder, say, serve

WELL_KNOWN = ("/.well-known/oauth-authorization-server", "/.well-known/openid-configuration")
REDIRECTS = {
    "redirect-http": "http://keys.test/jwks",
    "redirect-file": "file:///etc/passwd",
    "redirect-loop": "/jwks",
    "redirect-good": "/moved",
}


class Issuer(Handler):
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
        self.deliver(body, mode)


serve(Issuer)
