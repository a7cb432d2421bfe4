"""Replacing a data folder whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from adaptformer.errors import UserError


@contextlib.contextmanager
def replacing_folder(data: Path) -> Iterator[Path]:
    """Yield an empty folder beside `data` to fill; on success it takes the place of `data`, whose content is removed.

    When the body raises or is interrupted, the folder beside is removed and `data` is left as it was. The old content
    is removed only when the new one is in place. Raises UserError where the system refuses to write.
    """
    target = data.resolve()
    beside = target.with_name(f".{target.name}.partial-{os.getpid()}")
    old = target.with_name(f".{target.name}.old-{os.getpid()}")
    try:
        _remove_leftovers(target)
        beside.mkdir(parents=True)
        yield beside
        if target.exists():
            target.rename(old)
        try:
            beside.rename(target)
        except BaseException:
            if old.exists():
                old.rename(target)
            raise
    except OSError as error:
        raise UserError(
            f"cannot write {data}: {error.strerror or error}",
            "free space or make the folder writable, then run the same command again",
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)


def _remove_leftovers(target: Path) -> None:
    """Remove the partial folders of processes that were killed."""
    for leftover in target.parent.glob(f".{target.name}.partial-*"):
        pid = leftover.name.rpartition("-")[2]
        if pid.isdigit() and not _alive(int(pid)):
            shutil.rmtree(leftover, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)
    return True
