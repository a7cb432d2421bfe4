"""Filters for the log of a run: it shows the library's own lines, and each UserError once, as cause and remedy."""

from __future__ import annotations

import logging
import warnings

from prefect.logging.handlers import PrefectConsoleHandler

from adaptformer.base import progress
from adaptformer.base.errors import UserError

SHOWN = "shown_in_the_log"
LOGGERS = ("prefect.task_runs", "prefect.flow_runs", "prefect.engine")
STOPPED = ("Crash detected! Execution was aborted by an interrupt", "Crash detected! Execution was aborted by a term")
"""Prefect's words for a flow that was ended by a signal; the command has a line of its own for that."""


class OneCause(logging.Filter):
    """Shows each exception once: a UserError as its two lines, any other exception, a defect, with its traceback.

    Task, flow and engine each log an exception that passes through them, and then the resulting state.
    """

    def __init__(self) -> None:
        super().__init__()
        self.show_user_errors = True

    def filter(self, record: logging.LogRecord) -> bool:
        """Shorten a record in place; return False if it repeats an earlier one."""
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if record.getMessage().startswith("Finished in state Failed"):
            record.msg, record.args = "Finished in state Failed", ()
        if error is None:
            return True
        again = hasattr(error, SHOWN)
        setattr(error, SHOWN, True)  # on the exception itself: Python's built-in exceptions have no weak references
        if isinstance(error, UserError):
            record.msg, record.args, record.exc_info = str(error), (), None
            return self.show_user_errors and not again
        if again:
            record.exc_info = None
        return True


FILTER = OneCause()


def install() -> None:
    """Put the filter on Prefect's loggers, and let the library's INFO lines through; a second call does no harm."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(FILTER)
    # Prefect makes a class of a flow's parameters, and `register` is a method of every abstract class.
    warnings.filterwarnings("ignore", 'Field name "register"')
    # `extra_loggers` in pyproject.toml sends this logger's lines to Prefect, but leaves its level at WARNING.
    log = logging.getLogger("adaptformer")
    log.setLevel(logging.INFO)
    if not any(isinstance(known, progress.SafeRecords) for known in log.filters):
        log.addFilter(progress.SafeRecords())


def plain_console() -> None:
    """Show the library's lines as they are, and only errors of Prefect; hide UserErrors, which the caller shows."""
    FILTER.show_user_errors = False
    for name in ("EventsWorker", "APILogWorker"):  # they log unsent records when the process ends
        logging.getLogger(name).setLevel(logging.ERROR)
    lines = progress.Lines()  # these go above a progress bar, which would tear Prefect's own lines
    lines.addFilter(is_ours_or_a_fault)
    root = logging.getLogger()
    root.handlers = [*(handler for handler in root.handlers if not isinstance(handler, PrefectConsoleHandler)), lines]


def is_ours_or_a_fault(record: logging.LogRecord) -> bool:
    """Return whether a record is one of the library's, or an error of Prefect other than a stop by a signal."""
    if not record.name.startswith("prefect"):
        return True
    return record.levelno >= logging.ERROR and not record.getMessage().startswith(STOPPED)
