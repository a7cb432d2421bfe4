"""A tiny process that ends the temporary Prefect server when the process that started it has died.

Prefect stops its temporary server as the interpreter exits, which SIGKILL prevents. The watchdog holds one end of a
pipe and the watched process the other, which the system closes when that process dies. The server inherits a mark in
its environment, so it is found even while it is still starting.
"""

from __future__ import annotations

import os
import subprocess
import sys
import uuid

import psutil  # type: ignore[import-untyped]

MARK = "ADAPTFORMER_TEMPORARY_SERVER"

_held: list[subprocess.Popen[bytes]] = []
"""The watchdogs of this process, whose pipes must stay open as long as it lives."""


def start() -> None:
    """Watch this process from now on; the servers that it starts later are marked as its own."""
    os.environ[MARK] = uuid.uuid4().hex
    # In a session of its own: a signal to the whole group of this process must not reach it.
    watchdog = subprocess.Popen(
        [sys.executable, "-m", "flows.server_watchdog"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    _held.append(watchdog)


def _is_server(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get(MARK) == mark and "uvicorn" in process.cmdline()
    except (psutil.Error, OSError):
        return False


def main() -> None:
    """Wait for the end of the watched process, then end its servers."""
    sys.stdin.buffer.read()
    servers = [process for process in psutil.process_iter() if _is_server(process, os.environ[MARK])]
    for server in servers:
        server.terminate()
    _, alive = psutil.wait_procs(servers, timeout=5)
    for server in alive:
        server.kill()


if __name__ == "__main__":
    main()
