"""Shared locks on files: a file that a process is reading is not removed by another one.

A reader marks its open file: the system releases the mark when the descriptor and all its duplicates, such as that of a
memory map, are closed, also when the process is killed. The mark is a shared lock of the file itself, so it needs no
second file and no right to write. Windows has no such locks, and needs none: it refuses to remove a file that is open.
filelock's lock for many readers is a database beside the file, which a reader of a read-only folder cannot write.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:
    _HAS_LOCKS = False
else:
    _HAS_LOCKS = True


def mark(file: IO[bytes]) -> None:
    """Mark an open file as in use, as long as it or a duplicate of its descriptor is open. Raises OSError."""
    if _HAS_LOCKS:
        fcntl.flock(file, fcntl.LOCK_SH)


def marked(path: Path) -> bool:
    """Return whether a process has marked the file at `path`; False on a system that has no marks."""
    if not _HAS_LOCKS:
        return False
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def remove(path: Path) -> bool:
    """Remove a file that is not marked; return whether it is gone, which Windows refuses if it is in use."""
    try:
        path.unlink()
    except PermissionError:
        if _HAS_LOCKS:
            raise
        return False
    return True
