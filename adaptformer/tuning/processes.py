"""Training on several devices of this machine: torchrun starts the processes, and what they say arrives here.

The processes run the same stage (commands/training_process.py). The one that leads writes the files and reports epochs,
log lines and errors as lines of JSON, so that the caller sees one training. A process that dies is started again with
the others, and they continue from the last state.
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

from adaptformer import files
from adaptformer.errors import UserError
from adaptformer.tuning.history import EpochRow

log = logging.getLogger("adaptformer")

ENTRY = "adaptformer.commands.training_process"
RESTARTS = 3
"""So often all processes are started again after one of them has died."""


def started_by_torchrun() -> bool:
    """Say whether torchrun has started this process as one of several; other launchers set WORLD_SIZE too."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def follows() -> bool:
    """Say whether another process leads: that one writes the files and tells what happens."""
    return started_by_torchrun() and os.environ["RANK"] != "0"


def train(job: dict[str, Any], processes: int, errors: Path, on_epoch: Callable[[EpochRow], None]) -> dict[str, Any]:
    """Let `processes` processes do a `job`, whose values JSON can hold, and return what the one that leads returned.

    Raises the UserError of any process, or one that names the file `errors` where the others died too often. When the
    caller is interrupted or dies, they end.
    """
    errors.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, errors.open("wb") as stderr:
        described = Path(folder) / "job.json"
        files.write_json(described, job)
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes),
            "--max-restarts", str(RESTARTS), "--log-dir", folder, "-m", ENTRY, str(described),
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


@contextlib.contextmanager
def _started(command: list[str], stderr: Any) -> Iterator[Iterator[bytes]]:
    """Start torchrun in a session of its own, which no Ctrl-C reaches, and give the lines that its processes write."""
    # The processes end when the other end of their standard input closes, however this one dies.
    # The number of threads is the stage's to choose; without a value torchrun prints a warning.
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
                os.killpg(process.pid, signal.SIGKILL)
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()
        process.wait()
