"""Runs waiting for upload: runs that could not be tracked, logged later from the files of their run folders.

A run whose tracking fails leaves `upload-ID.json` in its run folder: name, params, tags, times and status. The next
run, or `adaptformer sync`, logs it together with the results in the folder. It is logged without metrics if the
folder no longer holds its results: because it failed or was killed while MLflow did not answer, or because another run
in the same folder has replaced its results.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adaptformer.base import files
from adaptformer.base.errors import UserError
from adaptformer.config.run_folder import RUNS, RunFolder
from adaptformer.tracking import mlflow_run, run_files
from adaptformer.tracking.mlflow_run import Description

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class Uploaded:
    """A run that waited and is in MLflow now; `complete` is whether its results were still in the run folder."""

    name: str
    status: str
    run_id: str
    complete: bool

    @property
    def sentence(self) -> str:
        """The upload in words."""
        missing = "" if self.complete else ", without metrics: its run folder does not hold its results"
        return f"uploaded {self.name}, {self.status.lower()}, as run {self.run_id}{missing}"


def keep(folder: RunFolder, run: Description) -> None:
    """Keep a run for upload. Raises UserError if the folder cannot be written."""
    files.write_json(_note(folder, run), dataclasses.asdict(run))


def discard(folder: RunFolder, run: Description) -> None:
    """Remove the note of a run that MLflow has after all."""
    _note(folder, run).unlink(missing_ok=True)


def waits(folder: RunFolder, results: str) -> bool:
    """Return whether a run with exactly these results (`run_files.sha256`) waits in the folder."""
    return any(_read(note).results == results for note in _notes(folder))


def waiting() -> list[RunFolder]:
    """Return the run folders in which runs wait for upload; imports no MLflow."""
    isolated = [RunFolder(root, isolated=True) for root in sorted(RUNS.glob("*"))]
    return [folder for folder in (RunFolder(), *isolated) if _notes(folder)]


def upload_waiting(client: MlflowClient, held: RunFolder | None = None) -> Iterator[Uploaded]:
    """Upload all waiting runs, in each folder the oldest first, and yield each one that MLflow has.

    Folders that another run has locked are skipped; `held` is one that the caller has locked. An exception of MLflow
    ends the upload; the remaining runs still wait. After a kill the next call completes the upload and logs nothing
    twice.
    """
    for folder in waiting():
        with contextlib.ExitStack() as stack:
            if held is None or folder.root != held.root:
                try:
                    stack.enter_context(folder.lock("adaptformer sync"))
                except UserError:
                    continue
            for note in _notes(folder):
                yield _upload(client, folder, note)


def _upload(client: MlflowClient, folder: RunFolder, note: Path) -> Uploaded:
    run = _read(note)
    if run.end is None:  # its process was killed after it wrote this note
        run.status, run.end = "KILLED", max(run.start, int(note.stat().st_mtime * 1000))
    complete = False
    with contextlib.suppress(OSError):  # a file is gone
        complete = run_files.sha256(folder) == run.results
    run_id = mlflow_run.upload(client, run, folder if complete else None)
    note.unlink()
    return Uploaded(run.name, run.status, run_id, complete)


def _note(folder: RunFolder, run: Description) -> Path:
    return folder.root / f"upload-{run.id}.json"


def _notes(folder: RunFolder) -> list[Path]:
    """Return the notes of a folder, the oldest first: ids begin with the time of the start."""
    return sorted(folder.root.glob("upload-*.json"))


def _read(note: Path) -> Description:
    return Description(**json.loads(note.read_text()))
