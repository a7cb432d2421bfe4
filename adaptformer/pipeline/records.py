"""The record of what is done in a run folder: one interface, whose store is chosen once for a run.

DVC records `artifacts/` in a checkout with DVC; every other run folder has a record of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Protocol

from adaptformer.config.params import Params
from adaptformer.config.run_folder import RunFolder
from adaptformer.pipeline import library_version
from adaptformer.pipeline.folder_record import FolderRecord
from adaptformer.pipeline.stages import STAGES
from adaptformer.tracking import dvc_record


class Record(Protocol):
    """The record of the stages that are done in one run folder. A caller holds the folder's lock."""

    def exclusive(self) -> contextlib.AbstractContextManager[None]:
        """Keep other processes from changing the recorded files while the body runs stages."""

    def is_complete(self) -> bool:
        """Return whether all stages are current."""

    def is_current(self, stage: str) -> bool:
        """Return whether a stage's recorded outputs are there, unchanged, and made from its present inputs."""

    def reuse(self, stage: str) -> bool:
        """Take the recorded outputs of an equal stage from elsewhere; return whether the stage is current then."""

    def recording(self, stage: str) -> contextlib.AbstractContextManager[None]:
        """Record a stage whose outputs the body makes. Raises UserError if an input changes meanwhile."""


class Unrecorded:
    """The record of a stage that runs by itself in `artifacts/` of a checkout with DVC.

    `dvc repro` starts such a stage: it decides that the stage runs, and records it.
    """

    def exclusive(self) -> contextlib.AbstractContextManager[None]:
        """Do nothing: `dvc repro` holds DVC's lock."""
        return contextlib.nullcontext()

    def is_complete(self) -> bool:
        """Return False."""
        return False

    def is_current(self, _stage: str) -> bool:
        """Return False, so that the stage runs."""
        return False

    def reuse(self, _stage: str) -> bool:
        """Return False."""
        return False

    def recording(self, _stage: str) -> contextlib.AbstractContextManager[None]:
        """Record nothing."""
        return contextlib.nullcontext()


def of_run(params: Params, folder: RunFolder, options: Sequence[str] = ()) -> Record:
    """Return the record for a run of all stages with these params in a folder.

    The remedy of an error repeats `options`, presets and overrides as they were given.
    """
    if not dvc_record.keeps(folder):
        return FolderRecord(params, folder, options)
    library_version.follow()
    return dvc_record.DvcRecord(tuple(STAGES))


def of_stage(stage: str, params: Params, folder: RunFolder, options: Sequence[str] = ()) -> Record:
    """Return the record for a single stage, which DVC may have started: DVC's record is then left to DVC.

    Raises UserError if DVC would record the stage as one of another version of the library.
    """
    if not dvc_record.keeps(folder):
        return FolderRecord(params, folder, options)
    library_version.require(stage)
    return Unrecorded()
