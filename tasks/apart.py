"""All five stages of a run in a process of its own, so that its peak memory is its own; its log lines come here."""

from __future__ import annotations

import logging
import logging.handlers
import multiprocessing
import queue
from multiprocessing.connection import Connection

from adaptformer import stage_runner
from adaptformer.errors import UserError
from adaptformer.params import Params
from adaptformer.run_folder import RunFolder
from adaptformer.stages import STAGES

log = logging.getLogger("adaptformer")


def complete(params: Params, folder: RunFolder, holder: str) -> list[str]:
    """Bring a run with overrides up to date and return the stages that had to run; `holder` names who locks the folder.

    The process locks the folder itself: where this one is killed outright, that one goes on to its end, and nobody else
    can write there until then. Raises what the stages raise, and UserError where the process dies.
    """
    context = multiprocessing.get_context("spawn")  # a forked process would inherit threads, and torch dislikes it
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_stages, args=(params, folder, holder, there), daemon=True)
    process.start()
    there.close()
    try:
        return _followed(here, folder)
    finally:  # also when this process is asked to stop
        process.terminate()
        process.join()


def _followed(here: Connection, folder: RunFolder) -> list[str]:
    """Pass log lines on, in this thread, which Prefect knows as the run's own, until the result comes."""
    while True:
        try:
            kind, content = here.recv()
        except EOFError as error:
            raise UserError(
                f"the process that ran {folder.root}/ was killed, perhaps for want of memory",
                "run the same command again: it goes on from the last whole epoch; a smaller batch needs less",
            ) from error
        if kind == "line":
            logging.getLogger(content.name).handle(content)
        elif kind == "error":
            raise content
        else:
            return list(content)


class _Lines(logging.handlers.QueueHandler):
    """Sends log records through a pipe."""

    def __init__(self, there: Connection) -> None:
        super().__init__(queue.SimpleQueue())
        self.there = there

    def enqueue(self, record: logging.LogRecord) -> None:
        self.there.send(("line", record))


def _stages(params: Params, folder: RunFolder, holder: str, there: Connection) -> None:
    log.handlers, log.propagate = [_Lines(there)], False
    log.setLevel(logging.INFO)
    ran = []
    try:
        with folder.lock(holder):
            for name in STAGES:
                if not stage_runner.is_current(name, params, folder):
                    stage_runner.run(name, params, folder)
                    ran.append(name)
    except Exception as error:  # of whatever kind: it is raised over there
        there.send(("error", error))
    else:
        there.send(("ran", ran))
