"""Files that appear whole or not at all, and the hashes that name them."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import socket
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from adaptformer.errors import UserError

_UMASK = os.umask(0o022)
os.umask(_UMASK)  # it can be read only by setting it


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; on success flush it to disk and rename it over `path`.

    When the body raises, the file beside is removed and `path` is left as it was. Raises UserError where the system
    refuses to write (permission, space, read-only file system).
    """
    # The suffix stays last: writers such as matplotlib choose the format by it. Machines may share the folder.
    beside = path.with_name(f".{path.stem}.{socket.gethostname()}-{os.getpid()}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        with beside.open("rb+") as written:
            os.fchmod(written.fileno(), 0o666 & ~_UMASK)  # some writers make files that only their owner can read
            os.fsync(written.fileno())
        beside.replace(path)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}",
            "free space or make the folder writable, then run the same command again",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def remove_leftovers(path: Path) -> None:
    """Remove what processes of this machine that were killed were just writing to `path` (see `replacing`)."""
    host = socket.gethostname()
    for leftover in path.parent.glob(f".{glob.escape(path.stem)}.{glob.escape(host)}-*.partial{path.suffix}"):
        writer = leftover.name.removesuffix(f".partial{path.suffix}").rpartition("-")[2]
        if not Path("/proc", writer).exists():
            leftover.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    with replacing(path) as beside:
        beside.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write `content` as UTF-8 with line feeds to `path`, whole or not at all."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON with sorted keys, so that equal content gives equal bytes."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def link(source: Path, target: Path) -> None:
    """Give a file a second name, whole or not at all: the bytes are stored once where the file system has links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.stem}.{os.getpid()}.partial{target.suffix}")
    beside.unlink(missing_ok=True)
    try:
        os.link(source, beside)
    except OSError:
        write_bytes(target, source.read_bytes())
    else:
        beside.replace(target)


def share(path: Path, others: Iterable[Path]) -> None:
    """Make `path` a hard link to the first of the other files with the same bytes: both take the space of one.

    Files are replaced here, never changed, so each keeps its bytes when the other gets new ones. Where the file system
    has no links, nothing happens.
    """
    own = path.stat()
    for other in others:
        with contextlib.suppress(OSError):
            there = other.stat()
            alike = there.st_size == own.st_size and there.st_ino != own.st_ino
            if alike and sha256_file(other) == sha256_file(path):
                link(other, path)
                return


def utc_now() -> str:
    """Return the present second as ISO 8601 in UTC; for records of acts, never for a file that a stage makes."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def canonical_json(content: Any) -> str:
    """Return the one JSON text of `content`: sorted keys, no spaces. Hashes are taken over it."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def sha256_file(path: Path) -> str:
    """Return the hex sha256 of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_text(text: str) -> str:
    """Return the hex sha256 of a text's UTF-8 bytes."""
    return hashlib.sha256(text.encode()).hexdigest()
