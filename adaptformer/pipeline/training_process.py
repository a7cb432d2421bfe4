"""One of several processes that train together: `torchrun … -m adaptformer.pipeline.training_process JOB`.

`adaptformer train` starts them if runtime.processes is more than 1 (training/processes.py).
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import sys
import threading
from pathlib import Path
from typing import Any

from adaptformer.base.errors import UserError
from adaptformer.config.params import Params
from adaptformer.config.run_folder import RunFolder
from adaptformer.pipeline import stages
from adaptformer.training import processes


def main() -> int:
    """Do the job that the file in the argument describes, and report to standard output; return the exit code.

    A UserError is reported and gives 0, so that torchrun does not retry what cannot succeed.
    """
    threading.Thread(target=_end_with_the_caller, daemon=True).start()
    leads = not processes.follows()
    job = json.loads(Path(sys.argv[1]).read_text())
    logger = logging.getLogger("adaptformer")
    logger.setLevel(logging.INFO if leads else logging.ERROR)
    logger.addHandler(_Reporting())
    logger.propagate = False
    try:
        result = stages.train(
            Params(**job["params"]),
            RunFolder.from_dict(job["folder"]),
            lambda row: _report({"row": dataclasses.asdict(row)}) if leads else None,
        )
    except UserError as error:
        _report({"fault": [error.cause, error.remedy]})  # any process reports: the others may wait for it
        return 0
    if leads:
        _report({"result": result})
    return 0


class _Reporting(logging.Handler):
    """Sends log lines to the caller, which shows them as its own."""

    def emit(self, record: logging.LogRecord) -> None:
        _report({"log": record.levelno, "text": record.getMessage()})


def _report(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _end_with_the_caller() -> None:
    os.read(sys.stdin.fileno(), 1)  # nothing is ever written there: the read returns when the other end is closed
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
