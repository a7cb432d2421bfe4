"""Files that appear whole or not at all, the hashes that name them, and the errors of disks that refuse them."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import os
import re
import socket
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from adaptformer.base.errors import UserError

_UMASK = os.umask(0o022)
os.umask(_UMASK)  # it can be read only by setting it


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; on success flush it to disk and rename it over `path`.

    If the body raises, the new file is removed and `path` is left as it was. Raises the UserError of `refusal` if the
    system refuses to write, whichever exception the writing library raises.
    """
    # The suffix stays last: writers such as matplotlib choose the format by it. The name holds the host, because
    # machines may share the folder.
    new_file = path.with_name(f".{path.stem}.{socket.gethostname()}-{os.getpid()}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield new_file
        with new_file.open("rb+") as written:
            os.fchmod(written.fileno(), 0o666 & ~_UMASK)  # some writers make files that only their owner can read
            os.fsync(written.fileno())
        new_file.replace(path)
    except UserError:
        raise
    except Exception as error:
        if (refused := refusal(error, path)) is None:
            raise
        raise refused from error
    finally:
        with contextlib.suppress(OSError):
            new_file.unlink(missing_ok=True)


_AGAIN = ", then run the same command again"
_REMEDIES = {
    errno.ENOSPC: f"free space on its disk{_AGAIN}",
    errno.EDQUOT: f"free space: your quota there is used up; or have it raised{_AGAIN}",
    errno.EROFS: f"its file system is read-only: work in a copy that can be written, or mount it writable{_AGAIN}",
    errno.EACCES: f"make it readable and writable for you (`ls -ld` shows whose it is){_AGAIN}",
    errno.EPERM: f"make it readable and writable for you (`ls -ld` shows whose it is){_AGAIN}",
    errno.EFBIG: f"allow larger files (`ulimit -f`, or another file system){_AGAIN}",
    errno.EMFILE: f"allow more open files (`ulimit -n`){_AGAIN}",
    errno.ENFILE: f"close other programs: the system has too many open files{_AGAIN}",
    errno.EIO: f"the disk fails: see the system's log, and use another disk{_AGAIN}",
}
"""The remedy for each reason for which the system refuses to write or read."""
_OF_A_PATH = {
    errno.ENAMETOOLONG: f"shorten the path{_AGAIN}",
    errno.ENOTDIR: f"move away the file that is in the place of a folder{_AGAIN}",
    errno.EEXIST: f"move away the file that is in the place of a folder{_AGAIN}",
}
"""The same for reasons that libraries also meet and handle by themselves; they only count for a path to be written."""
_SQLITE = {
    "database or disk is full": errno.ENOSPC,
    "attempt to write a readonly database": errno.EROFS,
    "unable to open database file": errno.EACCES,
    "disk I/O error": errno.EIO,
}
"""SQLite's phrases for the reasons, in exceptions that are not OSErrors."""


def refusal(error: BaseException, place: Path | None = None, likely: Path | None = None) -> UserError | None:
    """Return the error for the user if the system's refusal caused `error`, None if something else did.

    Libraries wrap it in exceptions of their own, whose text has "(os error 28)", "[Errno 28]" or a phrase of SQLite's.
    `place` is the path that was to be written, even if the error names another one; `likely` is named if both lack one.
    """
    for cause in chain(error):
        text = " ".join(str(cause).split())
        if isinstance(cause, FileNotFoundError) and "temporary directory" in text:
            folder = "no folder for temporary files can be written"
            return UserError(
                f"{folder} ({text[:200]})", f"free space there, or set TMPDIR to a folder with space{_AGAIN}"
            )
        if (number := _number(cause, text)) in _REMEDIES:
            named = place or getattr(cause, "filename", None) or likely or "a file"
            verb = "use" if place is None and number in {errno.EACCES, errno.EPERM} else "write"
            return UserError(f"cannot {verb} {named}: {os.strerror(number)}", _REMEDIES[number])
    if place is not None and isinstance(error, OSError):
        remedy = _OF_A_PATH.get(error.errno or 0, f"see that files can be written there{_AGAIN}")
        return UserError(f"cannot write {place}: {error.strerror or error}", remedy)
    return None


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and all exceptions that led to it."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop(0)
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [one.__cause__, None if one.__suppress_context__ else one.__context__]


def _number(error: BaseException, text: str) -> int:
    """Return the system's error number of a refusal, 0 if the exception has none."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    if match := re.search(r"\(os error (\d+)\)|\[Errno (\d+)\]", text):
        return int(match[1] or match[2])
    return next((number for phrase, number in _SQLITE.items() if phrase in text), 0)


@contextlib.contextmanager
def refusals(place: Path) -> Iterator[None]:
    """Turn a refusal by the system in the body into the UserError of `refusal` about `place`.

    A lock that is not free (filelock's Timeout) is not a refusal.
    """
    try:
        yield
    except (UserError, TimeoutError):
        raise
    except Exception as error:
        if (refused := refusal(error, place)) is None:
            raise
        raise refused from error


def remove_leftovers(path: Path) -> None:
    """Remove partial files for `path` (see `replacing`) that killed processes of this machine left behind."""
    host = socket.gethostname()
    for leftover in path.parent.glob(f".{glob.escape(path.stem)}.{glob.escape(host)}-*.partial{path.suffix}"):
        writer = leftover.name.removesuffix(f".partial{path.suffix}").rpartition("-")[2]
        if not Path("/proc", writer).exists():
            leftover.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    with replacing(path) as new_file:
        new_file.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    r"""Write `content` as UTF-8 with line feeds to `path`, whole or not at all.

    Bytes of a file name that are not UTF-8 become escapes such as \udcff, which JSON reads back.
    """
    write_bytes(path, content.encode(errors="backslashreplace"))


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON with sorted keys, so that equal content gives equal bytes."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def link(source: Path, target: Path) -> None:
    """Give a file a second name, whole or not at all: the bytes are stored once if the file system has links."""
    with refusals(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        new_link = target.with_name(f".{target.stem}.{os.getpid()}.partial{target.suffix}")
        new_link.unlink(missing_ok=True)
        try:
            os.link(source, new_link)
        except OSError:
            write_bytes(target, source.read_bytes())
        else:
            new_link.replace(target)


def share(path: Path, others: Iterable[Path]) -> None:
    """Make `path` a hard link to the first of the other files with the same bytes: both take the space of one.

    Files are replaced here, never changed, so each keeps its bytes when the other gets new ones. If the file system
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
    """Return the present second as ISO 8601 in UTC; for records of events, never for a stage's output."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def canonical_json(content: Any) -> str:
    """Return the canonical JSON text of `content`: sorted keys, no spaces. Hashes are taken over it."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def sha256_file(path: Path) -> str:
    """Return the hex sha256 of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_text(text: str) -> str:
    """Return the hex sha256 of a text's UTF-8 bytes."""
    return hashlib.sha256(text.encode()).hexdigest()
