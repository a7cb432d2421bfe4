"""Running a stage: its inputs are checked, its time is measured, and a record is written if DVC keeps none.

`python -m adaptformer STAGE`, `dvc repro` and the Prefect tasks all run a stage through `run`.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptformer.base import files, interruption, memory, progress
from adaptformer.base.errors import UserError
from adaptformer.config.params import Params, tracked
from adaptformer.config.run_folder import RunFolder
from adaptformer.pipeline.stages import STAGES, OnEpoch, fingerprint
from adaptformer.tuning import event_files

if TYPE_CHECKING:
    from adaptformer.tuning.history import EpochRow

log = logging.getLogger("adaptformer")

SHARED = ("validate", "fetch")
"""Stages whose outputs do not depend on methods or learning rates, so that runs share them."""


def run(
    name: str, params: Params, folder: RunFolder, on_epoch: OnEpoch | None = None, options: Sequence[str] = ()
) -> None:
    """Run one stage in a folder that the caller has locked, and write `timing/<stage>.json`.

    Raises UserError if an input is missing, or was not made because its stage failed; the error names the command to
    run first, with `options` (overrides and presets as the command line takes them). In the folder of a run with
    overrides, also raises UserError if `data/` has changed since it was validated, or if an input changed while the
    stage ran; only there `<stage>.done.json` is written.
    """
    stage = STAGES[name]
    progress.use(params.runtime.progress)
    require_inputs(name, folder, options)
    _require_finished(name, params, folder, options)
    files.write_json(folder.unfinished(name), _values(name, params))
    before: dict[str, Any] = {}
    if folder.overridden:
        if not _has_validated_data(name, folder):
            raise UserError(f"data/ is not what {folder.manifest} was made from", _first("validate", options))
        files.write_json(folder.params, tracked(params))
        folder.done(name).unlink(missing_ok=True)
        before = _inputs(name, params, folder)
        if name in SHARED and (other := _like(name, folder, before)) is not None:
            _take_over(name, folder, other)
            folder.unfinished(name).unlink(missing_ok=True)
            return
    log.info("%s begins", name)
    _on_stop(f"in {name}")
    on_event = None
    if name == "train" and params.runtime.tensorboard:
        on_event = event_files.writer(Path(params.runtime.tensorboard) / folder.root.name)
    memory.give_back_freed()  # memory of an earlier stage in this process
    memory.forget_peak()
    began = time.perf_counter()

    def on_each_epoch(row: EpochRow) -> None:
        # The state of the epoch is saved by now, and the same command resumes from it.
        phase = f" of phase {row.phase}" if params.tuning.schedule != "joint" else ""
        _on_stop(f"after epoch {row.epoch} of {params.tuning.epochs}{phase}")
        for listen in (on_event, on_epoch):
            if listen is not None:
                listen(row)

    timing = stage.run(params, folder, on_each_epoch)
    seconds = round(time.perf_counter() - began, 3)
    machine = {"host": platform.node(), "cores": os.cpu_count(), "python": platform.python_version()}
    taken = {"seconds": seconds, "peak_memory_mb": memory.peak_mb()}
    files.write_json(folder.timing(name), {**taken, **timing, **machine})
    if folder.overridden:
        _record(name, params, folder, before)
    folder.unfinished(name).unlink(missing_ok=True)
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


def _require_finished(name: str, params: Params, folder: RunFolder, options: Sequence[str]) -> None:
    """Raise UserError if a stage that makes an input failed or was stopped when it last ran with the same values.

    Its output, if there is one, is then that of an earlier run, and the present stage would use it silently.
    """
    for path, producer in _inputs_made(name, folder):
        if _json(folder.unfinished(producer)) == _values(producer, params):
            cause = f"{path} is not of these values: `adaptformer {producer}` did not finish when it last ran with them"
            raise UserError(cause, _first(producer, options))


def _inputs_made(name: str, folder: RunFolder) -> list[tuple[Path, str]]:
    """Return the inputs of a stage that other stages make, each with the name of that stage."""
    makers = {output: other.name for other in STAGES.values() for output in other.outputs}
    return [(getattr(folder, each), makers[each]) for each in STAGES[name].inputs if each in makers]


def _values(name: str, params: Params) -> dict[str, Any]:
    return {section: getattr(params, section).model_dump(mode="json") for section in STAGES[name].params}


def _on_stop(place: str) -> None:
    interruption.on_stop(f"stopped {place}; the same command continues there")


def is_current(name: str, params: Params, folder: RunFolder) -> bool:
    """Return whether a stage of a run with overrides is done, from its present inputs, with its outputs unchanged.

    Always False in the default folder, where DVC keeps the record.
    """
    if not folder.overridden or not all(
        getattr(folder, attribute).exists() for attribute in (*STAGES[name].inputs, *STAGES[name].outputs)
    ):
        return False
    present = {"inputs": _inputs(name, params, folder), "outputs": _outputs(name, folder)}
    # No stage is current on data that was not validated; `run` then raises the error with the remedy.
    return _has_validated_data(name, folder) and _done(folder, name) == present


def _first(producer: str, options: Sequence[str]) -> str:
    return f"run `{shlex.join(['adaptformer', producer, *options])}` first"


def _has_validated_data(name: str, folder: RunFolder) -> bool:
    """Return whether `data/` is unchanged since it was validated; true for a stage that does not need it."""
    if name == "validate" or "data" not in STAGES[name].inputs:
        return True
    return bool(_done(folder, "validate").get("inputs", {}).get("data") == _listing(folder.data))


def _record(name: str, params: Params, folder: RunFolder, before: dict[str, Any]) -> None:
    """Write the stage's record. Raises UserError instead if an input has changed since `before`."""
    after = _inputs(name, params, folder)
    changed = sorted(key for key in before if before[key] != after.get(key))
    if changed:
        raise UserError(
            f"inputs changed while the run was going: {', '.join(changed)} (stage {name} is not recorded)",
            "leave data/ and the code alone until the run ends, then run the same command again",
        )
    files.write_json(folder.done(name), {"inputs": after, "outputs": _outputs(name, folder)})


def _like(name: str, folder: RunFolder, inputs: dict[str, Any]) -> RunFolder | None:
    """Return another run folder in which a stage was done from the same inputs, with its outputs unchanged."""
    for other in folder.others():
        done = _done(other, name)
        there = all(getattr(other, output).is_file() for output in STAGES[name].outputs)
        if done.get("inputs") == inputs and there and done.get("outputs") == _outputs(name, other):
            return other
    return None


def _take_over(name: str, folder: RunFolder, other: RunFolder) -> None:
    """Link the outputs, the timing and the record of an equal stage from another run folder."""
    for output in STAGES[name].outputs:
        files.link(getattr(other, output), getattr(folder, output))
    if other.timing(name).is_file():
        files.link(other.timing(name), folder.timing(name))
    files.write_json(folder.done(name), _done(other, name))
    log.info("%s was done in %s/ from the same inputs", name, other.root)


def _done(folder: RunFolder, name: str) -> dict[str, Any]:
    """Return a stage's record; empty if there is none or it is damaged."""
    return _json(folder.done(name))


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _inputs(name: str, params: Params, folder: RunFolder) -> dict[str, Any]:
    """Return the inputs for a stage's record: its fingerprint, and the inputs that the fingerprint does not cover."""
    inputs = fingerprint(name, params, folder)
    if name == "validate":
        inputs["data"] = _listing(folder.data)
    checkpoint = Path(params.backbone.checkpoint)
    if name == "fetch" and checkpoint.is_file():
        inputs["checkpoint"] = [checkpoint.stat().st_size, checkpoint.stat().st_mtime_ns]
    if name == "fetch" and (folder_of_parts := checkpoint if checkpoint.is_dir() else _beside_index(checkpoint)):
        inputs["checkpoint_parts"] = _listing(folder_of_parts)
    return inputs


def _beside_index(checkpoint: Path) -> Path | None:
    """Return the folder of a checkpoint in parts, given the path of its index; None for a checkpoint of one file."""
    return checkpoint.parent if checkpoint.name.endswith(".index.json") and checkpoint.is_file() else None


def _outputs(name: str, folder: RunFolder) -> dict[str, str]:
    return {attribute: files.sha256_file(getattr(folder, attribute)) for attribute in STAGES[name].outputs}


def _listing(data: Path) -> str:
    """Return a hash over path, size and time of every file below a folder.

    Reading all images would take as long as validating them. A file that is only touched costs one more validation,
    which gives the same manifest.
    """
    found = sorted(path for path in data.rglob("*") if path.is_file())
    rows = [[path.relative_to(data).as_posix(), path.stat().st_size, path.stat().st_mtime_ns] for path in found]
    return files.sha256_text(files.canonical_json(rows))


def read_timing(folder: RunFolder, stage: str) -> dict[str, Any]:
    """Return the timing that `run` wrote for a stage; empty if it never ran here."""
    path = folder.timing(stage)
    content: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return content
