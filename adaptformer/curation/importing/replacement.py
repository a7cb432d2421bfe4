"""Replacement of a data folder as a whole or not at all, even if the process is killed.

1. The new folder is filled beside the old one.
2. A record beside both is written. It names the folders and the other parts of the change: values of params.yaml, lists
   of the project, data.dvc.
3. The folders change places, in one step or in two renames.
4. The other parts are written, and the record is removed.

A command that finds the record of a killed one reverts the change if the new folder is not in place yet, and otherwise
completes it (`settle`, which runs before every command that reads the folder). The folders are identified by their
inodes: a folder that is neither the old nor the new one is never removed.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from adaptformer.base import files, integrity
from adaptformer.base.errors import UserError
from adaptformer.curation.importing.exchange import exchange
from adaptformer.curation.importing.recording import dvc_add
from adaptformer.presets import writing

log = logging.getLogger("adaptformer")

PARAMS = Path("params.yaml")
LOCK_SECONDS = 60


@dataclass(frozen=True)
class Change:
    """The parts of a change of the data folder besides the folder itself, and the `lines` to print when all is done.

    `request` is the command line, `inputs` a hash of the files that the command reads, if they matter. `params` are
    values of params.yaml by dotted key, `files` whole texts by path. `once` is true for a command that must not run
    again after it has succeeded, because it would be refused or do something else; a repetition is recognised by
    `request` and `inputs`.
    """

    request: str
    inputs: str = ""
    lines: tuple[str, ...] = ()
    params: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    once: bool = False


@dataclass(frozen=True)
class _Record:
    """A change in progress: the inodes of the old folder (None if there is none) and of the new one."""

    change: Change
    old: int | None
    new: int
    completed: bool = False


class _Places:
    """The paths beside a data folder that belong to its replacement."""

    def __init__(self, data: Path) -> None:
        self.target = data.resolve()
        self.new = self._beside("new")
        self.old = self._beside("old")
        self.record = self._beside("change.json")
        self.lock = self._beside("lock")

    def _beside(self, what: str) -> Path:
        return self.target.with_name(f".{self.target.name}.{what}")

    def lost(self) -> Path | None:
        """Return the only copy of the data, if an earlier version of this code was killed and left it; else None."""
        if self.target.exists() or not self.target.parent.is_dir():
            return None
        return next(iter(sorted(self.target.parent.glob(f".{self.target.name}.old*"))), None)


@contextlib.contextmanager
def exclusive(data: Path) -> Iterator[None]:
    """Hold the lock of `data` during the body; the system releases it if the process dies.

    Raises UserError if another process holds the lock for more than LOCK_SECONDS.
    """
    places = _Places(data)
    try:
        places.lock.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(places.lock, LOCK_SECONDS, is_singleton=True).acquire()
    except Timeout as error:
        raise UserError(
            f"another command is changing {data}/", "wait until it ends, or stop it, then run the same command again"
        ) from error
    except OSError as error:
        raise _unwritable(data, error) from error
    with held:
        yield


@contextlib.contextmanager
def replacing_folder(data: Path, change: Callable[[], Change] | None = None) -> Iterator[Path]:
    """Yield an empty folder beside `data` to fill; on success it replaces `data`, whose old content is removed.

    If the body raises or is interrupted, the new folder is removed and `data` is unchanged. `change` is called after
    the body and returns the other parts of the change; they are all applied, by the next command (`settle`) if this one
    is killed. Raises UserError if the system refuses to write.
    """
    places = _Places(data)
    with exclusive(data):
        settle(data)
        try:
            shutil.rmtree(places.new, ignore_errors=True)
            files.remove_leftovers(places.record)
            places.record.unlink(missing_ok=True)
            places.new.mkdir(parents=True)
            yield places.new
            about = change() if change else Change("")
        except OSError as error:
            shutil.rmtree(places.new, ignore_errors=True)
            raise _unwritable(data, error) from error
        except BaseException:
            shutil.rmtree(places.new, ignore_errors=True)
            raise
        old = places.target.stat().st_ino if places.target.exists() else None
        record = _Record(about, old, places.new.stat().st_ino)
        try:
            _write(places, record)
            _swap(places)
        except OSError as error:
            _take_back(data, places, record)
            raise _unwritable(data, error) from error
        except UserError:  # the record could not be written
            _take_back(data, places, record)
            raise
        _complete(data, places, record)


def settle(data: Path) -> None:
    """Complete or revert a change of `data` whose command was killed, and log which.

    If no change was interrupted, this only checks whether a few files exist. Raises UserError if another process is
    changing `data`, and if `data` is neither the old nor the new folder of the change.
    """
    places = _Places(data)
    if not _is_open(places) and places.lost() is None:
        _remove_remains(places)
        return
    with exclusive(data):
        if (lost := places.lost()) and not places.record.is_file():
            lost.rename(places.target)
            log.info("%s/ is restored: a command was killed while it replaced it", data)
        if _is_open(places):  # still: another process may have settled it by now
            _settle(data, places, _read(places))


def _remove_remains(places: _Places) -> None:
    """Remove a new folder that a killed command was still filling; a folder of a running command stays."""
    if places.new.exists():
        with contextlib.suppress(Timeout, OSError), FileLock(places.lock, LOCK_SECONDS, is_singleton=True).acquire(0):
            if not _is_open(places):
                shutil.rmtree(places.new, ignore_errors=True)


def repeated(data: Path, request: str, inputs: str = "") -> Change | None:
    """Return the change of an earlier run of this request that was killed before it reported success; else None.

    `settle` has completed it by now, except for a failed `dvc add`, which is tried again here. The caller reports the
    change and calls `forget`, and does not make the change again. Raises UserError if DVC fails.
    """
    places = _Places(data)
    if not places.record.is_file():
        return None
    record = _read(places)
    if not record.change.once or (record.change.request, record.change.inputs) != (request, inputs):
        return None
    if not record.completed:
        _complete(data, places, record)
    return record.change


def forget(data: Path) -> None:
    """Remove the record of the last change of `data`, whose result has been reported."""
    _Places(data).record.unlink(missing_ok=True)


def _settle(data: Path, places: _Places, record: _Record) -> None:
    there = places.target.stat().st_ino if places.target.exists() else None
    request = record.change.request or "a replacement"
    if there == record.new:
        try:
            _complete(data, places, record)
        except UserError as error:  # from DVC, which is last: all else is done
            log.warning("%s; %s", error.cause, error.remedy)
        log.info(
            "completed `%s`, which was stopped: %s", request, "; ".join(record.change.lines) or "data/ is replaced"
        )
    elif there in {None, record.old}:
        _take_back(data, places, record)
        log.info("reverted `%s`, which was stopped: %s/ is unchanged", request, data)
    else:
        raise UserError(
            f"{data}/ is neither the folder that `{request}` was to replace nor the new one",
            f"compare it with {places.new} and {places.old}, then move {places.record} away",
        )


def _swap(places: _Places) -> None:
    """Put the new folder in place. If it cannot be exchanged with the old one, the old one is moved aside first."""
    if not places.target.exists():
        places.new.rename(places.target)
    elif not exchange(places.new, places.target):
        places.target.rename(places.old)
        places.new.rename(places.target)


def _take_back(data: Path, places: _Places, record: _Record) -> None:
    """Restore the old folder and remove the new one, which is not in place."""
    if record.old is not None and not places.target.exists():
        if not places.old.is_dir():
            raise UserError(f"{data}/ and its copy {places.old} are gone", "restore it with `dvc checkout`")
        places.old.rename(places.target)
    shutil.rmtree(places.new, ignore_errors=True)
    places.record.unlink(missing_ok=True)


def _complete(data: Path, places: _Places, record: _Record) -> None:
    """Remove the old folder and apply the other parts of the change; the new folder is in place. Safe to repeat.

    The record is removed at the end, or kept to recognise a repetition. Raises UserError if DVC fails.
    """
    for spare in (places.new, places.old):  # the old folder is one of these, by how the folders changed places
        shutil.rmtree(spare, ignore_errors=True)
    change = record.change
    for written in (places.record, PARAMS, *map(Path, change.files)):
        files.remove_leftovers(written)
    for path, text in change.files.items():
        files.write_text(Path(path), text)
    if change.params:
        writing.put(PARAMS, change.params)
    if change.request:
        dvc_add(data)
    if change.once:
        _write(places, _Record(change, record.old, record.new, completed=True))
    else:
        places.record.unlink(missing_ok=True)


def _is_open(places: _Places) -> bool:
    return places.record.is_file() and not _read(places).completed


def _write(places: _Places, record: _Record) -> None:
    integrity.write_record(places.record, asdict(record))


def _read(places: _Places) -> _Record:
    fix = f"check whether {places.target}, {places.new} or {places.old} holds your images; then move the record away"
    content = integrity.read_record(places.record, fix)
    change = content.pop("change")
    return _Record(Change(**{**change, "lines": tuple(change["lines"])}), **content)


def _unwritable(data: Path, error: OSError) -> UserError:
    return files.refusal(error, data) or UserError(
        f"cannot write {data}: {error}", "make sure that files can be written there"
    )
