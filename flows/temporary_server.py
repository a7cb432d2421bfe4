"""A Prefect server for one process: it ends with that process, and no signal from a terminal reaches it earlier.

A keeper, a tiny process in a session of its own, starts the server and ends it. The keeper holds one end of a pipe; the
process that uses the server holds the other end, which the system closes when that process ends, for whatever reason.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path

from adaptformer.base import files
from adaptformer.base.errors import UserError
from flows import ROOT

HOST = "127.0.0.1"
START_SECONDS = 300
"""The server takes some seconds to start on two idle cores, and more than a minute on busy ones."""
STOP_SECONDS = 5
_TAIL = 4000
"""How many bytes at the end of the log are searched for the cause of a failure."""

keepers: list[subprocess.Popen[bytes]] = []
"""Keepers of this process; their pipes stay open as long as it lives, because its last log lines go to the server."""


def start(log: Path, environment: Mapping[str, str] | None = None) -> str:
    """Start a server, which appends its errors to `log`, and return the address of its API, which answers later.

    The server's environment is this process's unless given.
    """
    with files.refusals(log.parent):
        log.parent.mkdir(parents=True, exist_ok=True)
    # The socket is created here and passed on: no other program can take the port, and an early client waits.
    with socket.create_server((HOST, 0)) as listener, log.open("ab") as errors:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "flows.temporary_server", str(listener.fileno())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            cwd=ROOT,
            env=environment,
            pass_fds=[listener.fileno()],
            start_new_session=True,
        )
        keepers.append(keeper)
        return f"http://{HOST}:{listener.getsockname()[1]}/api"


def wait_for(api: str, log: Path) -> None:
    """Wait until the server at this address answers. Raises UserError if it ends instead."""
    try:
        with urllib.request.urlopen(f"{api}/health", timeout=START_SECONDS):  # noqa: S310 - an address of ours
            return
    except (OSError, HTTPException) as error:
        raise explained(error, log) from error


def explained(error: Exception, log: Path) -> UserError:
    """Return the error for a server that failed: a refusal by the disk that its log reports, or else `error`."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL))
        message = file.read().decode(errors="replace")
    text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return files.refusal(RuntimeError(message), log.parent.parent) or UserError(
        f"the temporary Prefect server fails: {text}", f"see the last lines of {log}"
    )


def main() -> None:
    """Run the server on the socket whose number is the argument, until the other end of standard input closes."""
    listener = int(sys.argv[1])
    # Prefect itself starts such a server in the same way, except for the socket.
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"),
            *("--fd", str(listener), "--log-level", "error", "--lifespan", "on"),
        ],
        stdin=subprocess.DEVNULL,
        pass_fds=[listener],
        env={**os.environ, "PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"},
    )
    os.close(listener)  # otherwise clients would wait for a server that has died
    while server.poll() is None and not select.select([sys.stdin], [], [], 1)[0]:
        pass
    server.terminate()
    try:
        server.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()


if __name__ == "__main__":
    main()
