"""Running a stage: whether it is current, its inputs, its time, its record.

`python -m adaptformer STAGE`, `dvc repro` and the Prefect tasks all execute a stage by `run`.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptformer.base import files, interruption, memory, progress
from adaptformer.base.errors import UserError
from adaptformer.config.params import Params
from adaptformer.config.run_folder import RunFolder
from adaptformer.pipeline.records import Record
from adaptformer.pipeline.stages import STAGES, OnEpoch
from adaptformer.training import tensorboard

if TYPE_CHECKING:
    from adaptformer.training.history import EpochRow

log = logging.getLogger("adaptformer")

Execute = Callable[[str, Params, RunFolder, OnEpoch | None], None]
"""A way to execute a stage: `run` itself, or as a task of an orchestrator."""


@dataclass(frozen=True)
class Runner:
    """Brings the stages of one run up to date, in a folder that the caller has locked.

    The remedies of errors repeat `options`, presets and overrides as they were given.
    """

    params: Params
    folder: RunFolder
    record: Record
    options: Sequence[str] = ()
    execute: Execute = field(default_factory=lambda: run)

    def bring_up_to_date(self, name: str, on_epoch: OnEpoch | None = None) -> bool:
        """Run a stage unless it is current, and record it; return whether it ran.

        Raises UserError if an input is missing, or was not made because its stage failed; the error names the command
        to run first.
        """
        mark = self.folder.unfinished(name)
        self._require_finished(name)
        if self.record.is_current(name):
            log.info("%s is current", name)
            mark.unlink(missing_ok=True)  # left by a run with other data, which were undone
            return False
        if self.record.reuse(name):
            mark.unlink(missing_ok=True)
            return False
        require_inputs(name, self.folder, self.options)
        with self.record.recording(name):
            files.write_json(mark, _values(name, self.params))
            self.execute(name, self.params, self.folder, on_epoch)
        mark.unlink(missing_ok=True)
        return True

    def _require_finished(self, name: str) -> None:
        """Raise UserError if a stage that makes an input failed or was stopped when it last ran with the same values.

        Its output, if there is one, is then that of an earlier run, and the present stage would use it silently.
        """
        for path, producer in _inputs_made(name, self.folder):
            if path.is_file() and _unfinished(self.folder, producer) == _values(producer, self.params):
                cause = (
                    f"{path} is not of these values: `adaptformer {producer}` did not finish when it last ran with them"
                )
                raise UserError(cause, _first(producer, self.options))


def run(name: str, params: Params, folder: RunFolder, on_epoch: OnEpoch | None = None) -> None:
    """Execute one stage, without a look at any record, and write `timing/<stage>.json`."""
    stage = STAGES[name]
    progress.use(params.runtime.progress)
    log.info("%s begins", name)
    _on_stop(f"in {name}")
    on_event = None
    if name == "train" and params.runtime.tensorboard:
        on_event = tensorboard.writer(Path(params.runtime.tensorboard) / folder.root.name)
    memory.give_back_freed()  # memory of an earlier stage in this process
    memory.forget_peak()
    began = time.perf_counter()

    def on_each_epoch(row: EpochRow) -> None:
        # The state of the epoch is saved by now, and the same command resumes from it.
        phase = f" of phase {row.phase}" if params.training.schedule != "joint" else ""
        _on_stop(f"after epoch {row.epoch} of {params.training.epochs}{phase}")
        for listen in (on_event, on_epoch):
            if listen is not None:
                listen(row)

    timing = stage.run(params, folder, on_each_epoch)
    seconds = round(time.perf_counter() - began, 3)
    machine = {"host": platform.node(), "cores": os.cpu_count(), "python": platform.python_version()}
    taken = {"seconds": seconds, "peak_memory_mb": memory.peak_mb()}
    files.write_json(folder.timing(name), {**taken, **timing, **machine})
    _on_stop(f"after {name}")
    log.info("%s done in %.1f s", name, seconds)


def follow(params: Params, folder: RunFolder) -> None:
    """Train as one of several processes of torchrun, but not as the one that runs the stage and writes its files."""
    require_inputs("train", folder)
    log.setLevel(logging.ERROR)  # the leading process logs everything
    STAGES["train"].run(params, folder, lambda _row: None)


def require_inputs(name: str, folder: RunFolder, options: Sequence[str] = ()) -> None:
    """Raise UserError, which names the command to run first, if an input of a stage is missing."""
    for path, producer in _inputs_made(name, folder):
        if not path.is_file():
            raise UserError(f"{path} is missing", _first(producer, options))


def _inputs_made(name: str, folder: RunFolder) -> list[tuple[Path, str]]:
    """Return the inputs of a stage that other stages make, each with the name of that stage."""
    makers = {output: other.name for other in STAGES.values() for output in other.outputs}
    return [(getattr(folder, each), makers[each]) for each in STAGES[name].inputs if each in makers]


def _values(name: str, params: Params) -> dict[str, Any]:
    return {section: getattr(params, section).model_dump(mode="json") for section in STAGES[name].params}


def _on_stop(place: str) -> None:
    interruption.on_stop(f"stopped {place}; the same command continues there")


def _first(producer: str, options: Sequence[str]) -> str:
    return f"run `{shlex.join(['adaptformer', producer, *options])}` first"


def _unfinished(folder: RunFolder, stage: str) -> dict[str, Any] | None:
    """Return the values with which a stage did not finish; None if it finished, or the file is damaged."""
    try:
        content = json.loads(folder.unfinished(stage).read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def read_timing(folder: RunFolder, stage: str) -> dict[str, Any]:
    """Return the timing that `run` wrote for a stage; empty if it never ran here."""
    path = folder.timing(stage)
    content: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return content
