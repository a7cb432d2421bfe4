"""Commands in forked processes, which have imported already what takes seconds, ended by a signal on the way."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from adaptformer.base import interruption

HANG_SECONDS = 900
DEFECT = 70
"""The exit code of a command that ended by an exception."""
WORDS = {signal.SIGKILL: "SIGKILL", signal.SIGTERM: "SIGTERM", signal.SIGINT: "SIGINT"}


@dataclass(frozen=True)
class Kill:
    """A signal, the seconds after which it is sent, and whether to the process's whole group, as a terminal does."""

    number: signal.Signals
    after: float
    group: bool


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit code (negative: the signal), all that it printed, seconds, and whether it was hit."""

    code: int
    printed: str
    seconds: float
    hit: bool

    @property
    def traceback(self) -> bool:
        """Whether it ended by an exception, printed one, or printed more than an error's lines."""
        return self.code == DEFECT or "Traceback (most recent" in self.printed or "Exception ignored" in self.printed


def run(call: Callable[[], int], root: Path, kill: Kill | None = None) -> Ended:
    """Run `call` in a forked process within the folder `root`, with its output in a file, and kill it if asked to."""
    output = root.with_name(f"{root.name}.output")
    output.write_bytes(b"")
    sys.stdout.flush()
    ready, tell = os.pipe()
    child = os.fork()
    if not child:
        _be(call, root, output, tell)
    os.close(tell)
    os.read(ready, 1)  # until it answers signals as a command does from its first line on
    os.close(ready)
    began = time.monotonic()
    code = _wait(child, kill, began)
    hit = kill is not None and code != 0
    with contextlib.suppress(ProcessLookupError):  # what it had started
        os.killpg(child, signal.SIGKILL)
    return Ended(code, output.read_text(errors="replace"), time.monotonic() - began, hit)


def _be(call: Callable[[], int], root: Path, output: Path, tell: int) -> None:
    code = DEFECT
    try:
        os.setsid()
        os.chdir(root)
        into = os.open(output, os.O_WRONLY | os.O_APPEND)
        os.dup2(into, 1)
        os.dup2(into, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        interruption.at_once()
        os.write(tell, b".")
        os.close(tell)
        code = call()
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _wait(child: int, kill: Kill | None, began: float) -> int:
    """Return the exit code of a process, which gets its signal on time, and SIGKILL where it hangs."""
    sent = kill is None
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        passed = time.monotonic() - began
        if not sent and kill is not None and passed >= kill.after:
            sent = True
            (os.killpg if kill.group else os.kill)(child, kill.number)
        if passed > HANG_SECONDS:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.001)


def says_error(printed: str) -> bool:
    """Return whether the last two lines are an error and its remedy."""
    return re.search(r"^error: .*\n  fix: .*\n?\Z", printed, re.MULTILINE) is not None
