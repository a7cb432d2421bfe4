"""What MLflow could not be told, kept in `.unsent/` at the checkout's root until it is.

Each run has a folder there: `run.json`, written last and whole, and `files/`, copies of its result files. A lock in it
belongs to the run as long as that lives, and then to whoever sends it; the system releases it when either dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from adaptformer import files
from adaptformer.run_folder import RunFolder
from adaptformer.tracking import mlflow_store, run_files
from adaptformer.tracking.project import ROOT
from adaptformer.tracking.record import FOLDER_TAG, Record
from adaptformer.tracking.run_files import Artifacts

if TYPE_CHECKING:
    from mlflow import MlflowClient

FOLDER = ROOT / ".unsent"
RECORD, FILES, LOCK = "run.json", "files", ".lock"


@dataclass(frozen=True)
class Sent:
    """A kept run that is in MLflow now."""

    name: str
    status: str
    run_id: str


class Slot:
    """The place of one run that is going on; it is taken when there is something to keep."""

    def __init__(self, record: Record) -> None:
        self._folder = FOLDER / record.id
        self._lock: IO[str] | None = None

    def keep(self, record: Record, artifacts: Artifacts) -> None:
        """Keep all that is known of the run, files first. Raises OSError or UserError where the disk refuses."""
        if self._lock is None:
            self._lock = self._take()
        for path, place in artifacts:
            copy = self._folder / FILES / place / path.name
            if not copy.is_file():
                with files.replacing(copy) as beside:
                    shutil.copyfile(path, beside)
        files.write_json(self._folder / RECORD, record.to_json())

    def release(self) -> None:
        """Leave what is kept to whoever sends it: the run has ended."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def discard(self) -> None:
        """Forget what is kept: MLflow has it after all."""
        if self._lock is not None:
            _remove(self._folder)
            self.release()

    def _take(self) -> IO[str]:
        # Locked before it can be seen: whoever sends takes an unlocked folder without a record for a dead run's.
        hidden = self._folder.with_name(f".new-{self._folder.name}")
        hidden.mkdir(parents=True, exist_ok=True)
        lock = (hidden / LOCK).open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        hidden.rename(self._folder)
        return lock


def is_empty() -> bool:
    """Say whether nothing is kept; imports no MLflow."""
    return not _folders()


def holds(results_sha256: str) -> bool:
    """Say whether a kept run has exactly these results."""
    return any(_read(folder).results == results_sha256 for folder in _folders() if (folder / RECORD).is_file())


def send_all(client: MlflowClient) -> Iterator[Sent]:
    """Send what runs that have ended left here, the oldest first, and remove each one that MLflow has.

    Whatever MLflow raises ends it: what is not sent by then stays. Being killed at any point and begun again makes no
    run, number or file twice.
    """
    for folder in _folders():
        with _owned(folder) as mine:
            if mine and (folder / RECORD).is_file():
                yield _send(client, folder)
            if mine:
                _remove(folder)


def _send(client: MlflowClient, folder: Path) -> Sent:
    record = _read(folder)
    if record.end is None:  # its process died before it could say how it ended
        record.close("KILLED", max([record.start, *(when for _, _, when, _ in record.points)]))
    top = folder / FILES
    copies = sorted(path for path in top.rglob("*") if path.is_file() and not path.name.startswith("."))
    artifacts = [(path, path.parent.relative_to(top).as_posix().removeprefix(".")) for path in copies]
    run_id = mlflow_store.send(client, record, artifacts)
    origin = RunFolder(Path(record.tags[FOLDER_TAG]))
    if record.results and origin.model.is_file() and run_files.sha256(origin) == record.results:
        run_files.remember(origin, run_id)
    return Sent(record.name, record.status, run_id)


@contextlib.contextmanager
def _owned(folder: Path) -> Iterator[bool]:
    """Hold a kept run for the body; yield False where a living run, or another sender, has it."""
    try:
        lock = (folder / LOCK).open("w")
    except FileNotFoundError:  # another sender was faster
        yield False
        return
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield folder.is_dir()


def _folders() -> list[Path]:
    """Return the folders of all kept runs; their names begin with when the run began."""
    return sorted(path for path in FOLDER.glob("[!.]*") if path.is_dir())


def _read(folder: Path) -> Record:
    return Record.from_json(json.loads((folder / RECORD).read_text()))


def _remove(folder: Path) -> None:
    (folder / RECORD).unlink(missing_ok=True)  # first: a rest without it is never sent
    shutil.rmtree(folder)
