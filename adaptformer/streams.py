"""Standard output and standard error as every command finds them: whatever is printed can be written, and is safe.

Names of files and classes may hold bytes that are no text, letters that a terminal of ISO-8859-1 lacks, and characters
that steer a terminal. None of them ends a command: what cannot be written or shown is printed as an escape.
"""

from __future__ import annotations

import io
import os
import sys

from adaptformer import names

_OUTPUT, _ERROR = 1, 2


class _Terminal(io.TextIOWrapper):
    """Standard output in a terminal: characters that would steer it are written as escapes."""

    def write(self, text: str) -> int:
        super().write(names.shown_lines(text))
        return len(text)


def prepare() -> None:
    """Prepare both streams; twice does no harm.

    A stream that is closed becomes one that takes nothing: so no other file gets its number, and a command whose output
    is lost fails as on a full disk.
    """
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
    """Let standard output be UTF-8, whatever the terminal has: what programs read has one encoding."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")


def _closed(number: int, flags: int) -> io.TextIOWrapper:
    null = os.open(os.devnull, flags)
    if null != number:
        os.dup2(null, number)
        os.close(null)
    return open(number, "w", encoding="utf-8", closefd=False)
