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

STORE = "store/"
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
            path = unquote(self.path.partition("?")[0]).lstrip("/")
            repository, _, rest = path.partition("/resolve/")
            revision, _, name = rest.partition("/")
            if path.startswith(STORE):
                name = path.removeprefix(STORE)
                hub.asked.append((self.command, hub.commit, name))
                content = hub.sends.get(name, hub.files[name])
                return self._head(200, {"Content-Length": str(len(content))}) or content
            hub.asked.append((self.command, revision, name))
            if error := hub.error or self._missing(repository, revision, name):
                self._head(ERRORS.get(error) or int(error), {"X-Error-Code": error, "Content-Length": "0"})
                return b""
            content, commit = hub.files[name], {"X-Repo-Commit": hub.commit}
            if name.endswith(".safetensors"):  # large files lie on another host
                place = f"http://localhost:{self.server.server_address[1]}/{STORE}{name}"
                linked = {"X-Linked-Etag": f'"{hub.sha256(name)}"', "X-Linked-Size": str(len(content))}
                return self._head(302, {**commit, **linked, "Location": place, "Content-Length": "0"})
            etag = hashlib.sha1(content).hexdigest()  # noqa: S324 - as git names it
            return self._head(200, {**commit, "ETag": f'"{etag}"', "Content-Length": str(len(content))}) or content

        def _missing(self, repository: str, revision: str, name: str) -> str | None:
            known = {"RepoNotFound": repository == hub.repository, "RevisionNotFound": revision in {"main", hub.commit}}
            known["EntryNotFound"] = name in hub.files
            return next((error for error, there in known.items() if not there), None)

        def _head(self, status: int, headers: dict[str, str]) -> bytes:
            self.send_response(status)
            for header in headers.items():
                self.send_header(*header)
            self.end_headers()
            return b""

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
