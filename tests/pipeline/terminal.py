"""Commands in a terminal of their own, where Ctrl-C reaches all processes in the foreground as it does for a person."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path

_ESCAPE = re.compile(r"\x1b\[[?0-9;]*[A-Za-z]")


class Terminal:
    """A command that runs in a terminal, and what it has shown so far."""

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        self._screen, inside = pty.openpty()
        self.shown = ""
        self.process = subprocess.Popen(
            command, cwd=folder, env={**environment, "TERM": "xterm"}, start_new_session=True,
            stdin=inside, stdout=inside, stderr=inside,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - makes it the session's terminal
        )  # fmt: skip
        os.close(inside)

    def wait_for(self, pattern: str) -> None:
        """Read on until the command has shown `pattern`."""
        while not re.search(pattern, self.shown):
            assert self._read(), f"ended early:\n{self.shown}"

    def ctrl_c(self) -> list[str]:
        """Press Ctrl-C, wait for the end, and return the lines that were shown since, without control codes.

        A line stands as it looks in the end: what a carriage return leads back over is gone.
        """
        before = len(self.shown)
        os.write(self._screen, b"\x03")
        while self._read():
            pass
        self.process.wait(timeout=600)
        os.close(self._screen)
        text = _ESCAPE.sub("", self.shown[before:]).replace("\r\n", "\n")
        return [line.rpartition("\r")[2] for line in text.removesuffix("\n").split("\n")]

    def _read(self) -> bool:
        """Read what has been shown; False when no process has the terminal open any more."""
        try:
            content = os.read(self._screen, 65536)
        except OSError:  # Linux says so at the end
            return False
        self.shown += content.decode(errors="replace")
        return bool(content)
