"""Log lines of a call from a program or a notebook: they are shown during the call, and nothing changes afterwards."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator

from adaptformer.base import progress


@contextlib.contextmanager
def to_log() -> Iterator[None]:
    """Show the library's log lines during the body, on standard error, if the program has not set up logging itself.

    Afterwards the logger and the number of torch's threads are as they were.
    """
    logger = logging.getLogger("adaptformer")
    level, handler = logger.level, None if logger.hasHandlers() else progress.Lines()
    threads = torch.get_num_threads() if (torch := sys.modules.get("torch")) else None
    if handler is not None:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        if handler is not None:
            logger.removeHandler(handler)
            logger.setLevel(level)
        if torch is not None and threads is not None:
            torch.set_num_threads(threads)
