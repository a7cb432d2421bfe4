"""Standard output and standard error of every command: any text can be written to them, and is safe for a terminal.

Names of files and classes may hold bytes that are not text, letters that a terminal of ISO-8859-1 lacks, and characters
that steer a terminal. None of them ends a command: a character that cannot be written or shown becomes an escape.
"""

from __future__ import annotations

import atexit
import io
import os
import sys

from adaptformer.base import names

_OUTPUT, _ERROR = 1, 2


class _Terminal(io.TextIOWrapper):
    """Standard output in a terminal: characters that would steer it are written as escapes."""

    def write(self, text: str) -> int:
        super().write(names.shown_lines(text))
        return len(text)


def prepare() -> None:
    """Prepare both streams; a second call does no harm.

    A stream that is closed is replaced by one that accepts nothing: so no other file gets its number, and a command
    whose output is lost fails as on a full disk. Messages that standard error cannot take change no exit code.
    """
    atexit.unregister(_discard_errors)
    atexit.register(_discard_errors)
    sys.stdout = sys.stdout or _closed(_OUTPUT, os.O_RDONLY)
    sys.stderr = sys.stderr or _closed(_ERROR, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.isatty() and not isinstance(sys.stdout, _Terminal):
        sys.stdout = _Terminal(
            sys.stdout.buffer, sys.stdout.encoding, "backslashreplace", line_buffering=True, write_through=True
        )


def as_utf8() -> None:
    """Make standard output UTF-8, whatever the terminal uses: output for programs has one encoding."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")


def _discard_errors() -> None:
    """Discard what standard error could not take: Python would try once more as it ends, and exit with 120."""
    try:
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def _closed(number: int, flags: int) -> io.TextIOWrapper:
    null = os.open(os.devnull, flags)
    if null != number:
        os.dup2(null, number)
        os.close(null)
    return open(number, "w", encoding="utf-8", closefd=False)
