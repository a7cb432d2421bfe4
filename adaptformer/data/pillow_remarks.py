"""What Pillow warns of while it reads a file: kept for whoever reads it, instead of printed without the file's name."""

from __future__ import annotations

import contextlib
import logging
import threading
import warnings
from collections.abc import Iterator
from typing import Any

_FROM_PILLOW = r"PIL\."
_heard = threading.local()
_show = warnings.showwarning


@contextlib.contextmanager
def heard() -> Iterator[list[str]]:
    """Yield the list of remarks that Pillow makes in this thread within the body."""
    before = getattr(_heard, "remarks", None)
    _heard.remarks = remarks = list[str]()
    try:
        yield remarks
    finally:
        _heard.remarks = before


def _remember(remark: str) -> bool:
    remarks = getattr(_heard, "remarks", None)
    line = " ".join(remark.split())
    if remarks is not None and line not in remarks:
        remarks.append(line)
    return remarks is not None


def _shown(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    if "PIL" not in filename or not _remember(str(message)):
        _show(message, category, filename, lineno, file, line)


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """Keep what Pillow logs, as of TIFF files with too many channels."""
        _remember(record.getMessage())


warnings.filterwarnings("always", module=_FROM_PILLOW)  # else each place warns once, of whichever file came first
warnings.showwarning = _shown
logging.getLogger("PIL").addHandler(_Handler(logging.WARNING))
logging.getLogger("PIL").propagate = False
