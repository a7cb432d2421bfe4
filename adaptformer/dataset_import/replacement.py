"""Replacing a data folder whole or not at all, whatever is killed on the way.

The new folder is filled beside the old one. Then a record beside both names them and says what else belongs to the
change: values of params.yaml, lists of the project, data.dvc. The folders change places, in one step or in two renames;
the rest is done, and the record goes. A command that finds the record of one that was killed takes the change back if
the new folder is not in place yet, and otherwise completes it (`settle`, which runs before every command that reads
the folder). The folders are recognised by their inodes: nothing is removed that is not known to be the one or the
other.
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

from adaptformer import files, integrity
from adaptformer.dataset_import.exchange import exchange
from adaptformer.dataset_import.recording import dvc_add
from adaptformer.errors import UserError
from adaptformer.presets import writing

log = logging.getLogger("adaptformer")

PARAMS = Path("params.yaml")
LOCK_SECONDS = 60


@dataclass(frozen=True)
class Change:
    """The parts of a change of the data folder besides the folder itself, and what to tell when all is done.

    `request` names the command, `inputs` are a hash of the files that it reads, if that matters. `params` are values of
    params.yaml by dotted key, `files` whole texts by path. `once` is true for a command that cannot simply be run again
    after it has succeeded, because it would be refused or would do something else; its repetition is recognised by the
    two.
    """

    request: str
    inputs: str = ""
    lines: tuple[str, ...] = ()
    params: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    once: bool = False


@dataclass(frozen=True)
class _Record:
    """A change under way: the inodes of the old folder (None if there is none) and of the new one."""

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
        """Return the only copy of the data that an earlier version of this code left when it was killed, if any."""
        if self.target.exists() or not self.target.parent.is_dir():
            return None
        return next(iter(sorted(self.target.parent.glob(f".{self.target.name}.old*"))), None)


@contextlib.contextmanager
def exclusive(data: Path) -> Iterator[None]:
    """Keep other processes from changing `data` within the body; the system releases that when the process dies.

    Raises UserError if another process has been changing it for a minute.
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
    """Yield an empty folder beside `data` to fill; on success it takes the place of `data`, whose content is removed.

    When the body raises or is interrupted, the folder beside is removed and `data` is left as it was. `change`, asked
    after the body, says what belongs to the replacement; all of it is done, or by the next command (`settle`). Raises
    UserError where the system refuses to write.
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
    """Complete or take back a change of `data` whose command was killed, and log which.

    Where nothing was left, this looks for some names and does nothing else. Raises UserError if another process is
    changing `data`, and if what lies there is neither of the two folders of the change.
    """
    places = _Places(data)
    if not _is_open(places) and places.lost() is None:
        _remove_remains(places)
        return
    with exclusive(data):
        if (lost := places.lost()) and not places.record.is_file():
            lost.rename(places.target)
            log.info("%s/ is back: a command was killed when it was about to replace it", data)
        if _is_open(places):  # still: another process may have settled it by now
            _settle(data, places, _read(places))


def _remove_remains(places: _Places) -> None:
    """Remove a new folder that was only being filled when its command was killed; one of a living command stays."""
    if places.new.exists():
        with contextlib.suppress(Timeout, OSError), FileLock(places.lock, LOCK_SECONDS, is_singleton=True).acquire(0):
            if not _is_open(places):
                shutil.rmtree(places.new, ignore_errors=True)


def repeated(data: Path, request: str, inputs: str = "") -> Change | None:
    """Return the change that was made by an earlier run of this request which was killed before it could say so.

    `settle` has completed it by now, but for what DVC refused, which is tried once more. The caller tells the change
    and calls `forget`, and does not do it again. Raises UserError where DVC fails.
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
    """Forget the last change of `data`: its result has been told."""
    _Places(data).record.unlink(missing_ok=True)


def _settle(data: Path, places: _Places, record: _Record) -> None:
    there = places.target.stat().st_ino if places.target.exists() else None
    said = record.change.request or "a replacement"
    if there == record.new:
        try:
            _complete(data, places, record)
        except UserError as error:  # of DVC: all else is done
            log.warning("%s; %s", error.cause, error.remedy)
        log.info("completed `%s`, which was stopped: %s", said, "; ".join(record.change.lines) or "data/ is replaced")
    elif there in {None, record.old}:
        _take_back(data, places, record)
        log.info("took back `%s`, which was stopped: %s/ is as it was", said, data)
    else:
        raise UserError(
            f"{data}/ is neither the folder that `{said}` was to replace nor the new one",
            f"compare it with {places.new} and {places.old}, then move {places.record} away",
        )


def _swap(places: _Places) -> None:
    """Put the new folder in place. Where it cannot change places with the old one, that one goes aside first."""
    if not places.target.exists():
        places.new.rename(places.target)
    elif not exchange(places.new, places.target):
        places.target.rename(places.old)
        places.new.rename(places.target)


def _take_back(data: Path, places: _Places, record: _Record) -> None:
    """Bring the old folder back and remove the new one, which is not in place."""
    if record.old is not None and not places.target.exists():
        if not places.old.is_dir():
            raise UserError(f"{data}/ is gone, and so is its copy {places.old}", "bring it back with `dvc checkout`")
        places.old.rename(places.target)
    shutil.rmtree(places.new, ignore_errors=True)
    places.record.unlink(missing_ok=True)


def _complete(data: Path, places: _Places, record: _Record) -> None:
    """Remove the old folder and do what belongs to the change; the new one is in place. Every part may be repeated.

    The record goes at the end, or stays to recognise a repetition. Raises UserError where DVC fails.
    """
    for spare in (places.new, places.old):  # the one or the other, by how the folders changed places
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
    fix = f"see whether {places.target} holds your images, or {places.new} or {places.old}; then move the record away"
    content = integrity.read_record(places.record, fix)
    change = content.pop("change")
    return _Record(Change(**{**change, "lines": tuple(change["lines"])}), **content)


def _unwritable(data: Path, error: OSError) -> UserError:
    return files.refusal(error, data) or UserError(
        f"cannot write {data}: {error}", "see that files can be written there"
    )
