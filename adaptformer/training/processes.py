"""Training on several devices of this machine, by processes that torchrun starts and that report to this one.

The processes run the same stage, in a module that the caller names. The main process writes the files and reports
epochs, log lines and errors as lines of JSON, so that the caller sees one training run. If a process dies, all are
started again and continue from the last state.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from adaptformer.base import files
from adaptformer.base.errors import UserError
from adaptformer.training.history import EpochRow

log = logging.getLogger("adaptformer")

RESTARTS = 3
"""How many times all processes are started again after one of them has died."""


def started_by_torchrun() -> bool:
    """Return whether torchrun has started this process as one of several; other launchers set WORLD_SIZE too."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def follows() -> bool:
    """Return whether another process is the main one, which writes the files and reports events."""
    return started_by_torchrun() and os.environ["RANK"] != "0"


def train(
    module: str, job: dict[str, Any], processes: int, errors: Path, on_epoch: Callable[[EpochRow], None]
) -> dict[str, Any]:
    """Run a `job` (values as in JSON) by `module`, in `processes` processes, and return the main process's result.

    Raises the UserError of any process, or, if they died too often, one that names their log file `errors`. The
    processes end when the caller is interrupted or dies.
    """
    errors.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, errors.open("wb") as stderr:
        described = Path(folder) / "job.json"
        files.write_json(described, job)
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes),
            "--max-restarts", str(RESTARTS), "--log-dir", folder, "-m", module, str(described),
        ]  # fmt: skip
        with _started(command, stderr) as lines:
            for line in lines:
                message = json.loads(line)
                if "row" in message:
                    on_epoch(EpochRow(**message["row"]))
                elif "log" in message:
                    log.log(message["log"], "%s", message["text"])
                elif "fault" in message:
                    raise UserError(*message["fault"])
                else:
                    result: dict[str, Any] = message["result"]
                    return result
    raise UserError(
        f"the training processes ended {RESTARTS + 1} times before training was done",
        f"see the last lines of {errors}; the same command continues from the last state",
    )


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill torchrun and its processes; on Windows torchrun alone: its processes end with their standard input."""
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


@contextlib.contextmanager
def _started(command: list[str], stderr: Any) -> Iterator[Iterator[bytes]]:
    """Start torchrun in its own session, which Ctrl-C does not reach, and yield the lines that its processes write."""
    # The processes end when the other end of their standard input closes, so they end however this process dies.
    # The stage sets the number of threads later; without a value torchrun prints a warning.
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, env=environment, start_new_session=True
    )
    ended = False
    try:
        yield iter(process.stdout or ())
        ended = True
    finally:
        if ended:
            process.wait()
        else:
            with contextlib.suppress(ProcessLookupError):
                _kill(process)
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()
        process.wait()
