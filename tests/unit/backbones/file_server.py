"""A server of files on the loopback address that can misbehave."""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Server:
    """What it serves, how it behaves, and what it was asked: the path and Range of each request."""

    content: bytes
    url: str = ""
    ignores_range: bool = False
    content_range: str | None = None  # instead of the true one
    sends: int | None = None  # bytes of a response after which the connection is cut
    says_length: bool = True
    status: int | None = None
    redirect: str | None = None
    asked: list[str | None] = field(default_factory=list)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


@contextlib.contextmanager
def serving(content: bytes, name: str = "mae.pth") -> Iterator[Server]:
    server = Server(content)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            server.asked.append(asked)
            if server.redirect:
                self.send_response(302)
                self.send_header("Location", server.redirect)
                self.end_headers()
                return
            if server.status:
                self.send_error(server.status)
                return
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and not server.ignores_range else 0  # type: ignore[index]
            if start >= len(server.content):
                self.send_error(416)
                return
            body = server.content[start:]
            self.send_response(206 if start else 200)
            if start:
                true = f"bytes {start}-{len(server.content) - 1}/{len(server.content)}"
                self.send_header("Content-Range", server.content_range or true)
            if server.says_length:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: server.sends])

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_address[1]}/{name}"
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
