"""Ctrl-C: one line that says where the work stopped, nothing after it, and an end within seconds.

Python handles a signal between two steps of the main thread, which may be in one call of torch for minutes. So a thread
waits for the signal as well. Whichever comes first prints the line and silences the process; the main thread, where
KeyboardInterrupt is raised as ever, then has a short time to release what it holds. Nothing is lost at the end of that:
files appear whole or not at all, the system releases the locks of a process that ends, and training saves its state
after each epoch.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

EXIT_CODE = 130
"""As shells give it for a process that SIGINT ended."""
GRACE_SECONDS = 1.5
"""The time that the main thread has after Ctrl-C to put things in order."""
_CLEAR_LINE = "\r\x1b[K\x1b[?25h"
"""Removes what the terminal's line holds, `^C` or a progress bar, and shows the cursor, which a bar hides."""
_ELSEWHERE = "stopped; run the same command again to continue"

_line = _ELSEWHERE
_stopping = threading.RLock()
_stopped = False


def on_stop(line: str) -> None:
    """From now on, let Ctrl-C print this line instead of a general one."""
    global _line  # noqa: PLW0603 - a process is stopped once, wherever it is
    _line = line


def line() -> str:
    """Return what Ctrl-C prints now; in a terminal in place of what its line holds."""
    terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    return f"{_CLEAR_LINE if terminal else ''}{_line}"


@contextlib.contextmanager
def in_one_line() -> Iterator[None]:
    """Let Ctrl-C in the body, in the main thread, end the process as this module says, with EXIT_CODE.

    The body sees KeyboardInterrupt, and the process ends as soon as the body does. Where SIGINT is ignored or has
    a handler already, that stays.
    """
    on_stop(_ELSEWHERE)
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    read, write = os.pipe()
    os.set_blocking(write, False)
    watcher = threading.Thread(target=_watch, args=(read,), name="interruption", daemon=True)
    watcher.start()
    signal.signal(signal.SIGINT, _interrupt)
    before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(write)
        watcher.join()  # which never returns after Ctrl-C
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    _stop()
    raise KeyboardInterrupt


def _watch(read: int) -> None:
    """Wait for Ctrl-C until the other end of the pipe is closed; Python writes each signal's number there."""
    while number := os.read(read, 1):
        if number[0] == signal.SIGINT:
            _stop()
            select.select([read], [], [], GRACE_SECONDS)  # until the body has ended, or a second Ctrl-C
            os._exit(EXIT_CODE)
    os.close(read)


def _stop() -> None:
    """Print the line, then nothing more: libraries report the interruption in their own words."""
    global _stopped  # noqa: PLW0603
    with _stopping:
        if not _stopped:
            _stopped = True
            text, terminal, silence = line(), os.dup(2), os.open(os.devnull, os.O_WRONLY)
            for output in (1, 2):  # first, or a progress bar could be drawn once more
                os.dup2(silence, output)
            os.write(terminal, f"{text}\n".encode())  # not by print, whose lock the main thread may hold
