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
from http.client import HTTPException
from pathlib import Path

from adaptformer.errors import UserError

HOST = "127.0.0.1"
START_SECONDS = 300
"""The server takes some seconds to start on two idle cores, more than a minute on busy ones."""
STOP_SECONDS = 5

_kept: list[subprocess.Popen[bytes]] = []
"""The keepers of this process, whose pipes must stay open as long as it lives: its last log lines go to the server."""


def start(log: Path) -> str:
    """Start a server, which appends its errors to `log`, and return the address of its API, where it answers later."""
    log.parent.mkdir(parents=True, exist_ok=True)
    # Made here and handed down: no other program can take the port, and a client that connects early waits.
    with socket.create_server((HOST, 0)) as listener, log.open("ab") as errors:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "flows.temporary_server", str(listener.fileno())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
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
        raise UserError(
            f"the temporary Prefect server does not answer: {error}", f"see the last lines of {log}"
        ) from error


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
