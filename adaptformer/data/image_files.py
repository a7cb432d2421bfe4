"""The bytes of image files: only of regular files, and never more of one than a limit allows.

Folders of strangers hold named pipes, which would be waited for without an end, links to devices, which have none,
and files of any size.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import IO, NamedTuple

from adaptformer.data.decoding import MAX_PIXELS, DamagedImage

MAX_BYTES = 256_000_000
"""The most bytes of an image file; commands that read params.yaml take data.max_file_mb instead."""


class Limits(NamedTuple):
    """The most bytes of a file and the most pixels of its image; None is any number."""

    bytes: int | None = MAX_BYTES
    pixels: int | None = MAX_PIXELS

    @classmethod
    def of(cls, file_mb: int, megapixels: int) -> Limits:
        """Return the limits that params.yaml gives in megabytes and megapixels."""
        return cls(file_mb * 1_000_000, megapixels * 1_000_000)


USUAL = Limits()
NONE = Limits(None, None)
"""For files that were let in before, and whose hash was compared."""


def read(path: Path, limit: int | None = MAX_BYTES) -> bytes:
    """Return the bytes of a regular file. Raises DamagedImage for any other and beyond `limit` bytes, and OSError."""
    with opened(path) as file:
        return bounded(file, os.fstat(file.fileno()).st_size, limit)


def opened(path: Path) -> IO[bytes]:
    """Open a regular file without waiting. Raises DamagedImage for what is none, and OSError."""
    _refuse(path.stat().st_mode)  # before, because opening a device may do something to it
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    file = os.fdopen(descriptor, "rb")
    try:
        _refuse(os.fstat(descriptor).st_mode)  # it may have been replaced meanwhile
    except BaseException:
        file.close()
        raise
    return file


def bounded(file: IO[bytes], size: int, limit: int | None) -> bytes:
    """Return what is left of a file, whose `size` is known or was said. Raises DamagedImage beyond `limit` bytes."""
    if limit is not None and size > limit:
        raise too_large(size, limit)
    content = file.read(size + 1)
    if len(content) > size:  # it grew, or is one of /proc, whose sizes are 0
        content += file.read() if limit is None else file.read(limit + 1 - len(content))
        if limit is not None and len(content) > limit:
            raise too_large(None, limit)
    return content


def too_large(size: int | None, limit: int) -> DamagedImage:
    """Return the error for a file of more than `limit` bytes, whose `size` is known or not."""
    known = "" if size is None else f"{size / 1e6:,.1f} MB, "
    return DamagedImage(f"{known}more than the limit of {limit / 1e6:,.0f} MB (data.max_file_mb)")


def kind(mode: int) -> str:
    """Return what a file that is none of the regular ones is, by its mode."""
    named = "a named pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"
    return f"no regular file but {named}"


def _refuse(mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise DamagedImage(kind(mode))
