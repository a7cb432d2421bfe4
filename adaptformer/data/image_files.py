"""Reading of image files: only regular files, and no more bytes of each than a limit allows.

Folders from elsewhere may hold named pipes, on which a read blocks forever; links to devices, which have no end; and
files of any size.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import IO, NamedTuple

from adaptformer.data.decoding import MAX_PIXELS, DamagedImage

MAX_BYTES = 256_000_000
"""The largest size of an image file in bytes; commands that read params.yaml use data.max_file_mb instead."""

_FLAGS = os.O_RDONLY
for _name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"):  # no system has all of them
    _FLAGS |= getattr(os, _name, 0)


class Limits(NamedTuple):
    """The largest numbers of bytes of a file and of pixels of its image; None means no limit."""

    bytes: int | None = MAX_BYTES
    pixels: int | None = MAX_PIXELS

    @classmethod
    def of(cls, file_mb: int, megapixels: int) -> Limits:
        """Return the limits that params.yaml gives in megabytes and megapixels."""
        return cls(file_mb * 1_000_000, megapixels * 1_000_000)


USUAL = Limits()
NONE = Limits(None, None)
"""For files that were accepted before and whose hash was compared."""


def read(path: Path, limit: int | None = MAX_BYTES) -> bytes:
    """Return the bytes of a regular file. Raises OSError, and DamagedImage for other kinds and above `limit` bytes."""
    with opened(path) as file:
        return bounded(file, os.fstat(file.fileno()).st_size, limit)


def opened(path: Path) -> IO[bytes]:
    """Open a regular file without blocking. Raises OSError, and DamagedImage for any other kind of file."""
    _refuse(path.stat().st_mode)  # before it is opened, because opening a device may have an effect
    descriptor = os.open(path, _FLAGS)
    file = os.fdopen(descriptor, "rb")
    try:
        _refuse(os.fstat(descriptor).st_mode)  # the file may have been replaced meanwhile
    except BaseException:
        file.close()
        raise
    return file


def bounded(file: IO[bytes], size: int, limit: int | None) -> bytes:
    """Return the rest of a file of a stated `size` in bytes. Raises DamagedImage above `limit` bytes."""
    if limit is not None and size > limit:
        raise too_large(size, limit)
    content = file.read(size + 1)
    if len(content) > size:  # the file grew, or is in /proc, whose files have size 0
        content += file.read() if limit is None else file.read(limit + 1 - len(content))
        if limit is not None and len(content) > limit:
            raise too_large(None, limit)
    return content


def too_large(size: int | None, limit: int) -> DamagedImage:
    """Return the error for a file of more than `limit` bytes; `size` is None if it is unknown."""
    known = "" if size is None else f"{size / 1e6:,.1f} MB, "
    return DamagedImage(f"{known}more than the limit of {limit / 1e6:,.0f} MB (data.max_file_mb)")


def kind(mode: int) -> str:
    """Return the reason why a file that is not regular cannot be used: its kind, by its mode."""
    named = "a named pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"
    return f"no regular file but {named}"


def _refuse(mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise DamagedImage(kind(mode))
