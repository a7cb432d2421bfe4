"""Ctrl-C and SIGTERM: one line on where the work stopped, no output after it, and an end within seconds.

Python handles a signal between two steps of the main thread, which may be in one call of torch for minutes. So a second
thread waits for the signals as well. The thread that sees the signal first prints the line and silences the process;
the main thread, in which KeyboardInterrupt is raised as usual, then has a short time to release its resources. After
that time nothing is lost: files appear whole or not at all, the system releases the locks of a process that ends, and
training saves its state after each epoch.

Before a command begins, while modules are imported, and after it, while the interpreter ends, there is nothing to
release: the line is printed and the process ends at once (`at_once`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

GRACE_SECONDS = {signal.SIGINT: 1.5, signal.SIGTERM: 5.0}
"""The time that the main thread has to release its resources: a person waits for it, a scheduler gives 10 s or more."""
SIGNALS = tuple(GRACE_SECONDS)
_CLEAR_LINE = "\r\x1b[K\x1b[?25h"
"""Clears the terminal's line, which may hold `^C` or a progress bar, and shows the cursor, which a bar hides."""
_ELSEWHERE = "stopped; run the same command again to continue"

_line = _ELSEWHERE
_stopping = threading.RLock()
_stopped: int | None = None
_too_late = False


def on_stop(line: str) -> None:
    """Set the line that a signal prints from now on, instead of a general one."""
    global _line  # noqa: PLW0603 - a process is stopped once, wherever it is
    _line = line


def line() -> str:
    """Return the text that a signal prints now; in a terminal it replaces the present line."""
    terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    return f"{_CLEAR_LINE if terminal else ''}{_line}"


def exit_code() -> int:
    """Return the exit code of a process that was stopped, as shells give it for the signal that came first."""
    return 128 + (_stopped or signal.SIGINT)


def too_late() -> None:
    """Ignore the signals from now on: the command's work is done, and it is about to report its result and to end.

    Otherwise a command that was stopped after its report would be repeated, as its line says, and do its work twice.
    """
    global _too_late  # noqa: PLW0603
    with _stopping:
        _too_late = True


def at_once() -> None:
    """Make the signals end the process with the line and `exit_code()` from now on, also outside of `in_one_line`.

    Only for the start of a command's own process. Signals that are ignored or have a handler stay as they are.
    """
    for number in SIGNALS:
        if signal.getsignal(number) in {signal.default_int_handler, signal.SIG_DFL}:
            signal.signal(number, _end)


def _end(number: int, _frame: FrameType | None) -> None:
    if _stop(number):
        os._exit(exit_code())


@contextlib.contextmanager
def in_one_line() -> Iterator[None]:
    """Make a signal during the body, in the main thread, end the process as this module says, with `exit_code()`.

    The body sees KeyboardInterrupt, and the process ends as soon as the body does. A signal that is ignored or has a
    handler already stays as it is.
    """
    global _stopped, _too_late
    on_stop(_ELSEWHERE)
    _stopped, _too_late = None, False
    before = {number: signal.getsignal(number) for number in SIGNALS}
    if before[signal.SIGINT] not in {signal.default_int_handler, _end}:
        yield
        return
    ours = [number for number in SIGNALS if before[number] in {signal.default_int_handler, signal.SIG_DFL, _end}]
    from socket import socketpair  # takes time that `--help` does not have

    reader, writer = socketpair()  # not a pipe, on which Windows cannot wait for a limited time
    writer.setblocking(False)
    watcher = threading.Thread(target=_watch, args=(reader,), name="interruption", daemon=True)
    watcher.start()
    for number in ours:
        signal.signal(number, _interrupt)
    descriptor = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(descriptor)
        writer.close()
        watcher.join()  # it never returns after a signal
        for number in ours:
            signal.signal(number, before[number])


def _interrupt(number: int, _frame: FrameType | None) -> None:
    if _stop(number):
        raise KeyboardInterrupt


def _watch(reader: socket.socket) -> None:
    """Wait for a signal until the other end of the socket is closed; Python writes each signal's number there.

    Prefect has a handler of its own for SIGTERM while a flow runs: the signal's number arrives here all the same.
    """
    while number := reader.recv(1):
        if number[0] in GRACE_SECONDS and _stop(number[0]):
            reader.settimeout(GRACE_SECONDS[signal.Signals(number[0])])
            with contextlib.suppress(OSError):
                reader.recv(1)  # until the body has ended, or a second signal
            os._exit(exit_code())
    reader.close()


def _stop(number: int) -> bool:
    """Print the line and silence the process: libraries would report the interruption in their own words.

    Return whether the process is to end; False if it is too late for that.
    """
    global _stopped  # noqa: PLW0603
    with _stopping:
        if _too_late:
            return False
        if _stopped is None:
            _stopped = number
            text, terminal, silence = line(), os.dup(2), os.open(os.devnull, os.O_WRONLY)
            for output in (1, 2):  # first, or a progress bar could be drawn once more
                os.dup2(silence, output)
            os.write(terminal, f"{text}\n".encode())  # not by print, whose lock the main thread may hold
        return True
