"""All five stages of a run in a process of its own, so that its peak memory is its own; its log lines come here."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections.abc import Sequence

from adaptformer.errors import UserError
from adaptformer.run_folder import RunFolder

log = logging.getLogger("adaptformer")

_ERROR = re.compile(r"error: (?P<cause>.+)\n  fix: (?P<remedy>.+)")


def run(folder: RunFolder, overrides: Sequence[str]) -> None:
    """Bring the run with these overrides (`key=value`), whose own folder is `folder`, up to date.

    `adaptformer pipeline` runs in the process and locks the folder itself: when this process is killed outright, that
    one goes on to its end, and nobody else can write there until then. Raises the UserError that the process prints,
    one where it is killed, and RuntimeError where it ends in any other way.
    """
    command = [sys.executable, "-m", "adaptformer", "pipeline", "--own-folder", *overrides]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True, errors="replace",
    ) as process:  # fmt: skip
        try:
            printed_last = _followed(process)
        finally:  # also when this process is asked to stop
            process.terminate()
    if process.returncode < 0:
        raise UserError(
            f"the process that ran {folder.root}/ was killed, perhaps because memory ran out",
            "run the same command again: it goes on from the last whole epoch; a smaller batch needs less",
        )
    if error := _ERROR.fullmatch("\n".join(printed_last)):
        raise UserError(error["cause"], error["remedy"])
    for line in printed_last:
        log.info("%s", line)
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}; its lines above say more")


def _followed(process: subprocess.Popen[str]) -> list[str]:
    """Log the process's lines as they come, in this thread, which Prefect knows as the run's own, until it has ended.

    Lines from the first that may be the error at its end are returned instead.
    """
    assert process.stderr is not None  # noqa: S101
    printed_last: list[str] = []
    for line in process.stderr:
        text = line.rstrip("\n")
        if printed_last or text.startswith("error: "):
            printed_last.append(text)
        else:
            log.info("%s", text)
    process.wait()
    return printed_last
