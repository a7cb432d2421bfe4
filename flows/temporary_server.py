"""A Prefect server for one process: it ends with that process, and no signal from a terminal reaches it before.

A keeper, a tiny process in a session of its own, starts the server and ends it. It holds one end of a pipe and the
process that uses the server the other one, which the system closes when that process ends, however it does.
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

from adaptformer import files
from adaptformer.errors import UserError
from flows import ROOT

HOST = "127.0.0.1"
START_SECONDS = 300
"""The server takes some seconds to start on two idle cores, more than a minute on busy ones."""
STOP_SECONDS = 5
_TAIL = 4000
"""So many of the last letters of the log are looked at for the cause of a failure."""

_kept: list[subprocess.Popen[bytes]] = []
"""The keepers of this process, whose pipes must stay open as long as it lives: its last log lines go to the server."""


def start(log: Path, environment: Mapping[str, str] | None = None) -> str:
    """Start a server, which appends its errors to `log`, and return the address of its API, where it answers later.

    Its environment is this process's unless given.
    """
    with files.refusals(log.parent):
        log.parent.mkdir(parents=True, exist_ok=True)
    # Made here and handed down: no other program can take the port, and a client that connects early waits.
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
        _kept.append(keeper)
        return f"http://{HOST}:{listener.getsockname()[1]}/api"


def wait_for(api: str, log: Path) -> None:
    """Return when the server at this address answers. Raises UserError if it ends instead."""
    try:
        with urllib.request.urlopen(f"{api}/health", timeout=START_SECONDS):  # noqa: S310 - an address of ours
            return
    except (OSError, HTTPException) as error:
        raise explained(error, log) from error


def explained(error: Exception, log: Path) -> UserError:
    """Return why the server failed: what its disk refused, as its log tells, or else the error of whoever asked it."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL))
        said = file.read().decode(errors="replace")
    text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return files.refusal(RuntimeError(said), log.parent.parent) or UserError(
        f"the temporary Prefect server fails: {text}", f"see the last lines of {log}"
    )


def main() -> None:
    """Run the server on the listening socket that the argument gives, until the other end of standard input closes."""
    listener = int(sys.argv[1])
    # As Prefect starts a server of this kind itself, but for the socket.
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"),
            *("--fd", str(listener), "--log-level", "error", "--lifespan", "on"),
        ],
        stdin=subprocess.DEVNULL,
        pass_fds=[listener],
        env={**os.environ, "PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"},
    )
    os.close(listener)  # or clients would wait for a server that has died
    while server.poll() is None and not select.select([sys.stdin], [], [], 1)[0]:
        pass
    server.terminate()
    try:
        server.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()


if __name__ == "__main__":
    main()
