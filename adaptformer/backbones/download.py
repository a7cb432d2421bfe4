"""Download of large files by https: streamed, resumable, verified by hash, cached by hash."""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from adaptformer.backbones import address
from adaptformer.base import files, progress
from adaptformer.base.errors import UserError

log = logging.getLogger("adaptformer")

_PIECE = 1 << 20
_TIMEOUT = 30.0
_SECONDS_BETWEEN_LINES = 5.0
_AGAIN = "run the same command again: it resumes where it stopped"


def cache_folder() -> Path:
    """Return the folder of downloads: $ADAPTFORMER_CACHE, else adaptformer/ in $XDG_CACHE_HOME or ~/.cache."""
    if own := os.environ.get("ADAPTFORMER_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "adaptformer"


def offline() -> bool:
    """Return whether downloads are switched off, by `--offline` or by the hub's own variable HF_HUB_OFFLINE."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def cached(url: str, sha256: str) -> Path:
    """Return the path in the cache of the file at `url` with the hash `sha256`, whether it exists or not."""
    suffix = ".safetensors" if urlsplit(url).path.endswith(".safetensors") else ".pth"
    return cache_folder() / f"{sha256}{suffix}"


def fetch(url: str, sha256: str) -> Path:
    """Return the cached path of the file at `url`, downloaded unless it is cached already.

    An interrupted transfer is resumed. Only a file with the hash `sha256` gets its final name in the cache. Raises
    UserError for an address that is not allowed, if downloads are switched off, and for a server that cannot be reached
    or answers with an error, a transfer that ends early, and another hash.
    """
    address.check(url)
    path = cached(url, sha256)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_suffix(".lock"), address.shown(url)):
            if not path.is_file() or files.sha256_file(path) != sha256:
                path.unlink(missing_ok=True)
                _complete(url, path, sha256)
    except OSError as error:  # not of the network: those are UserErrors by now
        if (refused := files.refusal(error, path.parent)) is None:
            raise
        raise UserError(refused.cause, f"set ADAPTFORMER_CACHE to another folder, or {refused.remedy}") from error
    return path


def _complete(url: str, path: Path, sha256: str) -> None:
    """Complete the partial file beside `path`, verify it and rename it to `path`."""
    if offline():
        raise UserError(
            f"{address.shown(url)} is not in {path.parent}, and downloads are switched off",
            "leave out --offline and HF_HUB_OFFLINE once, with a network; or set backbone.checkpoint to a file's path",
        )
    partial = path.with_suffix(".partial")
    resumed = _transfer(url, partial)
    if (present_sha256 := files.sha256_file(partial)) != sha256 and resumed:
        # The earlier part may be of another version of the file, so it is downloaded once more from the beginning.
        partial.unlink()
        _transfer(url, partial)
        present_sha256 = files.sha256_file(partial)
    if present_sha256 != sha256:
        partial.unlink()
        raise UserError(
            f"the file at {address.shown(url)} has sha256 {present_sha256}, not {sha256}",
            "check backbone.checkpoint and backbone.sha256; the file was not kept",
        )
    with partial.open("rb+") as written:
        os.fsync(written.fileno())
    partial.replace(path)


def _transfer(url: str, partial: Path) -> bool:
    """Download what `partial` lacks; return whether it resumed an earlier transfer."""
    offset = partial.stat().st_size if partial.exists() else 0
    with _answer(url, offset) as response:
        if response is None:  # the server has nothing after the offset: the file is complete, or of another version
            return True
        start, total = _extent(response)
        if start not in {0, offset}:
            raise UserError(
                f"{address.shown(url)} sent a part of the file that was not requested", "use another server"
            )
        with partial.open("r+b" if partial.exists() else "wb") as out:
            out.truncate(start)
            out.seek(start)
            done = start + _copy(response, out, url, start, total)
    if total is not None and done < total:
        raise UserError(f"the transfer of {address.shown(url)} ended after {done} of {total} bytes", _AGAIN)
    return start > 0


def _extent(response: Any) -> tuple[int, int | None]:
    """Return the offset of a response's first byte and the size of the whole file, None if it is not stated."""
    if response.status == http.HTTPStatus.PARTIAL_CONTENT:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        return (int(match[1]), int(match[2])) if match else (-1, None)
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def _copy(response: Any, out: IO[bytes], url: str, start: int, total: int | None) -> int:
    """Write the response to `out` and return the number of bytes; show a bar in a terminal, else log lines."""
    done, began = 0, time.monotonic()
    logged = began
    with progress.bar("downloading", total and total / 1e6, "MB", start / 1e6) as bar:
        while piece := _piece(response, url):
            out.write(piece)
            done += len(piece)
            bar.advance(len(piece) / 1e6)
            if not bar.visible and (now := time.monotonic()) - logged >= _SECONDS_BETWEEN_LINES:
                logged = now
                share = f" of {total / 1e6:.0f}" if total else ""
                log.info("%.0f%s MB, %.1f MB/s", (start + done) / 1e6, share, done / 1e6 / (now - began))
    return done


def _piece(response: Any, url: str) -> bytes:
    try:
        piece: bytes = response.read(_PIECE)
    except (OSError, http.client.HTTPException) as error:
        raise UserError(f"the transfer of {address.shown(url)} broke off: {address.one_line(error)}", _AGAIN) from error
    return piece


@contextlib.contextmanager
def _answer(url: str, offset: int) -> Iterator[Any]:
    """Yield the server's response to a request for the bytes from `offset` on; None if there are none."""
    request = urllib.request.Request(url, headers={"User-Agent": "adaptformer"})  # noqa: S310 - the address was checked
    if offset:
        request.add_header("Range", f"bytes={offset}-")
    # A proxy cannot reach this machine's loopback address.
    handlers = [address.Redirects(), *([urllib.request.ProxyHandler({})] if address.is_loopback(url) else [])]
    log.info("%s: %s", "resuming" if offset else "downloading", address.shown(url))
    try:
        response = urllib.request.build_opener(*handlers).open(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if offset and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            yield None
            return
        raise UserError(
            f"{address.shown(url)} answered {error.code} {address.one_line(error)}",
            "check backbone.checkpoint, or try later",
        ) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UserError(
            f"{urlsplit(url).hostname} cannot be reached: {address.one_line(error)}",
            "check the network; or get the file elsewhere and set backbone.checkpoint to its path",
        ) from error
    with response:
        yield response


@contextlib.contextmanager
def _locked(path: Path, what: str) -> Iterator[None]:
    """Hold a lock during the body, after waiting for other processes; the system releases it if the process dies."""
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        log.info("waiting for another process that downloads %s", what)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
