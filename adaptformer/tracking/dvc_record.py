"""DVC's record of the stages whose results are in `artifacts/`."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from adaptformer.base.errors import UserError
from adaptformer.config.run_folder import RunFolder
from adaptformer.tracking import dvc_repository
from adaptformer.tracking.dvc_repository import Fingerprint

log = logging.getLogger("adaptformer")


def keeps(folder: RunFolder) -> bool:
    """Return whether DVC records the stages of a run folder: in a checkout with DVC, those of the default folder."""
    return not folder.isolated and dvc_repository.is_used() and Path("dvc.yaml").is_file()


class DvcRecord:
    """DVC's record of `stages`, the names of all stages in their order; the caller holds the folder's lock.

    Raises UserError if DVC is not installed.
    """

    def __init__(self, stages: Sequence[str]) -> None:
        if importlib.util.find_spec("dvc") is None:
            raise UserError(
                "dvc is not installed, and in this project it records the results in artifacts/",
                "pip install 'adaptformer[pipeline]', or let the run keep its own record: --own-folder",
            )
        self._stages = stages
        self._sources: dict[str, Fingerprint] = {}

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold DVC's lock on `data/` and all outputs; `recording` compares with the sources as they are now.

        Raises UserError unless `data/` is as data.dvc records it.
        """
        with dvc_repository.exclusive():
            dvc_repository.check_data()
            self._sources = dvc_repository.source_fingerprints(self._stages)
            yield

    def is_complete(self) -> bool:
        """Return whether data and all stages are current."""
        return dvc_repository.is_clean()

    def is_current(self, stage: str) -> bool:
        """Return whether a stage is current, if every stage before it is."""
        return dvc_repository.is_current(stage)

    def reuse(self, stage: str) -> bool:
        """Bring back lost outputs of a stage from DVC's cache; return whether the stage is current then."""
        if not dvc_repository.restore(stage):
            return False
        log.info("%s is current: what was lost is back from DVC's cache", stage)
        return True

    def recording(self, stage: str) -> contextlib.AbstractContextManager[None]:
        """Run the body, which makes the outputs of a stage, and record them with DVC; within `exclusive` only."""
        return dvc_repository.recorded(stage, self._sources[stage])
