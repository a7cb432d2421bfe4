"""Pillow's warnings about a file, collected for the caller instead of printed without the file's name."""

from __future__ import annotations

import contextlib
import logging
import threading
import warnings
from collections.abc import Iterator
from typing import Any

_FROM_PILLOW = r"PIL\."
_collecting = threading.local()
_show = warnings.showwarning


@contextlib.contextmanager
def collected() -> Iterator[list[str]]:
    """Yield a list that collects the warnings of Pillow in this thread during the body."""
    before = getattr(_collecting, "remarks", None)
    _collecting.remarks = remarks = list[str]()
    try:
        yield remarks
    finally:
        _collecting.remarks = before


def _remember(remark: str) -> bool:
    remarks = getattr(_collecting, "remarks", None)
    line = " ".join(remark.split())
    if remarks is not None and line not in remarks:
        remarks.append(line)
    return remarks is not None


def show_or_remember(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    """Show a warning as Python does, or collect it if it is one of Pillow within `collected`."""
    if "PIL" not in filename or not _remember(str(message)):
        _show(message, category, filename, lineno, file, line)


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """Collect a log line of Pillow, such as one about a TIFF file with too many channels."""
        _remember(record.getMessage())


warnings.filterwarnings("always", module=_FROM_PILLOW)  # else each line of code warns once, for the first file only
warnings.showwarning = show_or_remember
logging.getLogger("PIL").addHandler(_Handler(logging.WARNING))
logging.getLogger("PIL").propagate = False
