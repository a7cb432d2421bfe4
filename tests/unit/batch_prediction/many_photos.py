"""How many pictures conftest.py's folder holds, and what workers call: imported by each of their processes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from adaptformer.base.errors import UserError
from adaptformer.batch_prediction import shard
from adaptformer.batch_prediction.job import Job
from adaptformer.batch_prediction.shard import Outcome, WorkerOptions

IMAGES = 11


def slow(job: Job, number: int) -> Outcome:
    """Compute a shard slowly enough to be killed on the way, and note that it was begun."""
    Path(job.folder, f".begun-{number}-{os.getpid()}").touch()
    time.sleep(0.4)
    return shard.predict(job, WorkerOptions("cpu", 1), number)


def dying(_number: int) -> Outcome:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def refusing(number: int) -> Outcome:
    raise UserError(f"shard {number} is bad", "mend it")
