"""A bar for each long step, in a terminal on standard error; elsewhere there are only log lines."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePath
from typing import TYPE_CHECKING, Literal, TypeVar

from adaptformer.base import names
from adaptformer.base.errors import without_credentials

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")

log = logging.getLogger("adaptformer")

DELAY_SECONDS = 0.5
"""A step that ends sooner shows no bar: it would only flicker."""
SECONDS_BETWEEN_LOG_LINES = 15

_quiet = False
_wanted = True
_current: Progress | None = None


def use(mode: Literal["auto", "none"]) -> None:
    """Show bars in a terminal ("auto"), or no bars ("none"), from now on in this process."""
    global _wanted  # noqa: PLW0603 - a process has one terminal
    _wanted = mode == "auto"


def hush() -> None:
    """Show no bars from now on in this process, regardless of `use`."""
    global _quiet  # noqa: PLW0603
    _quiet = True


def steps(
    items: Iterable[T], label: str, total: int, unit: str, size: Callable[[T], int] = lambda _: 1, done: int = 0
) -> Iterator[T]:
    """Yield the items; in a terminal a bar shows how many of `total` units are done.

    Each item counts as `size` units; `done` units are done before the first item.
    """
    with bar(label, total, unit, done) as shown:
        for item in items:
            yield item
            shown.advance(size(item))


def logged(
    items: Iterable[T], label: str, total: int, unit: str, size: Callable[[T], int] = lambda _: 1
) -> Iterator[T]:
    """Yield the items as `steps` does; of a step that takes long, log lines also tell the rate and the time left."""
    count, began, last = 0, time.monotonic(), time.monotonic()
    for item in steps(items, label, total, unit, size):
        count += size(item)
        if time.monotonic() - last > SECONDS_BETWEEN_LOG_LINES:
            last = time.monotonic()
            rate = count / (last - began)
            left = (total - count) / rate / 60
            done = f"{label}: {count:,} of {total:,} {unit}, {rate:,.{0 if rate >= 10 else 1}f} {unit}/s"
            log.info("%s, %.0f min left", done, left)
        yield item


class Bar:
    """Counts the finished units of a step, and shows them if `progress`, with one task, is given."""

    def __init__(self, progress: Progress | None, total: float | None, unit: str, done: float) -> None:
        self.visible = progress is not None
        self._progress, self._total, self._unit = progress, total, unit
        self._first = self._done = done
        self._began = time.monotonic()

    def advance(self, count: float) -> None:
        """Count this many more units as done."""
        self._done += count
        if self._progress is None:
            return
        seconds = time.monotonic() - self._began
        rate = (self._done - self._first) / max(seconds, 1e-9)
        of = f" of {self._total:,.0f}" if self._total else ""
        figures = f"{self._done:,.0f}{of} {self._unit}, {rate:,.{0 if rate >= 10 else 1}f} {self._unit}/s"
        self._progress.update(self._progress.task_ids[0], completed=self._done, figures=figures)
        if seconds >= DELAY_SECONDS and not self._progress.live.is_started:
            self._progress.start()


@contextlib.contextmanager
def bar(label: str, total: float | None, unit: str, done: float = 0) -> Iterator[Bar]:
    """Yield a bar over `total` units (None if unknown), of which some may be `done`; it vanishes at the end.

    It shows nothing outside of a terminal, nor within the body of another bar.
    """
    global _current  # noqa: PLW0603
    if _quiet or not _wanted or _current or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield Bar(None, total, unit, done)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    _current = Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[figures]}"), TimeRemainingColumn(),
        console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty(),
    )  # fmt: skip
    _current.add_task(label, total=total, completed=done, figures="")  # type: ignore[arg-type]
    try:
        yield Bar(_current, total, unit, done)
    finally:
        _current.stop()
        _current = None


class SafeRecords(logging.Filter):
    """Makes a log record safe: each path on one line, and no characters that would steer a terminal."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change a record in place; it always passes."""
        if isinstance(record.args, tuple):
            record.args = tuple(names.shown(str(arg)) if isinstance(arg, PurePath) else arg for arg in record.args)
        record.msg, record.args = names.shown_lines(record.getMessage()), ()
        return True


class Lines(logging.Handler):
    """Writes each log line to standard error, above the bar if there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.addFilter(SafeRecords())

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        text = without_credentials(self.format(record))
        with contextlib.suppress(OSError):  # a full or closed standard error loses lines, never work
            if _current and _current.live.is_started:
                _current.console.print(text, markup=False, highlight=False, soft_wrap=True)
            else:
                # One call; `print` makes two, and another thread may end the process in between.
                sys.stderr.write(f"{text}\n")
                sys.stderr.flush()
