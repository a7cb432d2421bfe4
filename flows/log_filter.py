"""What the log of a run shows: the library's own lines, and each UserError once, as cause and remedy."""

from __future__ import annotations

import logging
import warnings

from prefect.logging.handlers import PrefectConsoleHandler

from adaptformer import progress
from adaptformer.errors import UserError

SHOWN = "shown_in_the_log"
LOGGERS = ("prefect.task_runs", "prefect.flow_runs", "prefect.engine")


class OneCause(logging.Filter):
    """Shows each exception once: a UserError as its two lines, any other one, which is a defect, with its traceback.

    Task, flow and engine each log an exception that passes through them, and then the state that it leaves.
    """

    def __init__(self) -> None:
        super().__init__()
        self.show_user_errors = True

    def filter(self, record: logging.LogRecord) -> bool:
        """Shorten a record in place; return False if it says nothing new."""
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if record.getMessage().startswith("Finished in state Failed"):
            record.msg, record.args = "Finished in state Failed", ()
        if error is None:
            return True
        again = hasattr(error, SHOWN)
        setattr(error, SHOWN, True)  # on the exception itself: Python's own ones cannot be referred to weakly
        if isinstance(error, UserError):
            record.msg, record.args, record.exc_info = str(error), (), None
            return self.show_user_errors and not again
        if again:
            record.exc_info = None
        return True


FILTER = OneCause()


def install() -> None:
    """Put the filter on Prefect's loggers, and let the library's INFO lines through; twice does no harm."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(FILTER)
    # Prefect makes a class of a flow's parameters, and `register` is a method of every abstract class.
    warnings.filterwarnings("ignore", 'Field name "register"')
    # `extra_loggers` in pyproject.toml hands this logger's lines to Prefect but leaves its level at WARNING.
    log = logging.getLogger("adaptformer")
    log.setLevel(logging.INFO)
    if not any(isinstance(known, progress.SafeRecords) for known in log.filters):
        log.addFilter(progress.SafeRecords())


def plain_console() -> None:
    """Show the library's lines as they are, only errors of Prefect, and no UserError, which the caller shows."""
    FILTER.show_user_errors = False
    for name in ("EventsWorker", "APILogWorker"):  # they log what is left to send as the process ends
        logging.getLogger(name).setLevel(logging.ERROR)
    lines = progress.Lines()  # which go above a progress bar, where Prefect's own would be torn
    lines.addFilter(lambda record: record.levelno >= logging.ERROR or not record.name.startswith("prefect"))
    root = logging.getLogger()
    root.handlers = [*(handler for handler in root.handlers if not isinstance(handler, PrefectConsoleHandler)), lines]
