"""A stand-in for the Hugging Face hub on the loopback address: one repository, its files by commit, its errors."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

ERRORS = {"RepoNotFound": 401, "GatedRepo": 403, "RevisionNotFound": 404, "EntryNotFound": 404}


@dataclass
class Hub:
    """What it serves, what goes wrong, and what it was asked: method, revision and file of each request."""

    repository: str
    commit: str
    files: dict[str, bytes]
    url: str = ""
    error: str | None = None  # the code of the answer to every request, or a status
    sends: dict[str, bytes] = field(default_factory=dict)  # other bytes than those whose hash is stated
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    def sha256(self, name: str) -> str:
        return hashlib.sha256(self.files[name]).hexdigest()


@contextlib.contextmanager
def serving(repository: str, commit: str, files: dict[str, bytes]) -> Iterator[Hub]:
    hub = Hub(repository, commit, files)

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> bytes:
            repository, _, rest = unquote(self.path.partition("?")[0]).lstrip("/").partition("/resolve/")
            revision, _, name = rest.partition("/")
            hub.asked.append((self.command, revision, name))
            error = hub.error
            if repository != hub.repository:
                error = error or "RepoNotFound"
            elif revision not in {"main", hub.commit}:
                error = error or "RevisionNotFound"
            elif name not in hub.files:
                error = error or "EntryNotFound"
            if error:
                self.send_response(ERRORS.get(error) or int(error))
                self.send_header("X-Error-Code", error)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return b""
            content = hub.files[name]
            etag = hub.sha256(name) if name.endswith(".safetensors") else hashlib.sha1(content).hexdigest()  # noqa: S324
            self.send_response(200)
            self.send_header("X-Repo-Commit", hub.commit)
            self.send_header("ETag", f'"{etag}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            return hub.sends.get(name, content)

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self.wfile.write(self._answer())

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    hub.url = f"http://127.0.0.1:{http.server_address[1]}"
    try:
        yield hub
    finally:
        http.shutdown()
        http.server_close()
