"""A web server for one list, whose behaviour is told on disk.

Arguments: address, port, folder, and optionally a certificate and its key for TLS. For each request
the file `mode` in the folder says what to do, and `list` has the content. Prints a line of JSON when
it listens and for each request.
"""

import hashlib

from misbehaving import Handler, folder, say, serve


class Lists(Handler):
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
        self.deliver(body, mode, lambda: say(**said))


serve(Lists)
