"""The record that a run folder keeps of itself: `<stage>.done.json`, with the hashes of a stage's inputs and outputs.

It holds for every run folder that DVC does not record.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from adaptformer.base import files
from adaptformer.base.errors import UserError
from adaptformer.config.params import Params, tracked
from adaptformer.config.run_folder import RunFolder
from adaptformer.pipeline.stages import STAGES, fingerprint

log = logging.getLogger("adaptformer")

SHARED = ("validate", "fetch")
"""Stages whose outputs do not depend on methods or learning rates, so that runs share them."""


class FolderRecord:
    """The record of one run folder; an error's remedy repeats `options`, the overrides and presets as they were given.

    The caller holds the folder's lock.
    """

    def __init__(self, params: Params, folder: RunFolder, options: Sequence[str] = ()) -> None:
        self._params = params
        self._folder = folder
        self._options = options

    def exclusive(self) -> contextlib.AbstractContextManager[None]:
        """Do nothing: the folder's lock keeps other runs away, and `recording` notices changed data."""
        return contextlib.nullcontext()

    def is_complete(self) -> bool:
        """Return whether all stages are current."""
        return all(map(self.is_current, STAGES))

    def is_current(self, stage: str) -> bool:
        """Return whether a stage is done, from its present inputs, with its outputs unchanged."""
        needed = (*STAGES[stage].inputs, *STAGES[stage].outputs)
        if not all(getattr(self._folder, attribute).exists() for attribute in needed):
            return False
        present = {"inputs": self._inputs(stage), "outputs": _outputs(stage, self._folder)}
        # No stage is current on data that was not validated; `recording` then raises the error with the remedy.
        return self._has_validated_data(stage) and _done(self._folder, stage) == present

    def reuse(self, stage: str) -> bool:
        """Link the outputs of an equal stage from another run folder, and record them; return whether there is one."""
        if stage not in SHARED or (other := self._equal(stage)) is None:
            return False
        for output in STAGES[stage].outputs:
            files.link(getattr(other, output), getattr(self._folder, output))
        if other.timing(stage).is_file():
            files.link(other.timing(stage), self._folder.timing(stage))
        self._write(stage, _done(other, stage))
        log.info("%s was done in %s/ from the same inputs", stage, other.root)
        return True

    @contextlib.contextmanager
    def recording(self, stage: str) -> Iterator[None]:
        """Run the body, which makes the outputs of a stage, and write the stage's record.

        A record of before stays meanwhile: it holds the hashes of its outputs, so it never speaks of other ones.
        Raises UserError if `data/` has changed since it was validated, or if an input changes while the body runs.
        """
        if not self._has_validated_data(stage):
            first = shlex.join(["adaptformer", "validate", *self._options])
            raise UserError(f"data/ is not what {self._folder.manifest} was made from", f"run `{first}` first")
        before = self._inputs(stage)
        yield
        after = self._inputs(stage)
        if changed := sorted(key for key in before if before[key] != after.get(key)):
            raise UserError(
                f"inputs changed while the run was going: {', '.join(changed)} (stage {stage} is not recorded)",
                "leave data/ and the code alone until the run ends, then run the same command again",
            )
        self._write(stage, {"inputs": after, "outputs": _outputs(stage, self._folder)})

    def _write(self, stage: str, record: dict[str, Any]) -> None:
        files.write_json(self._folder.params, tracked(self._params))
        files.write_json(self._folder.done(stage), record)

    def _has_validated_data(self, stage: str) -> bool:
        """Return whether `data/` is unchanged since it was validated; true for a stage that does not need it."""
        if stage == "validate" or "data" not in STAGES[stage].inputs:
            return True
        validated = _done(self._folder, "validate").get("inputs", {}).get("data")
        return bool(validated == _listing(self._folder.data))

    def _equal(self, stage: str) -> RunFolder | None:
        """Return another run folder in which a stage was done from the same inputs, with its outputs unchanged."""
        inputs = self._inputs(stage)
        for other in self._folder.others():
            done = _done(other, stage)
            there = all(getattr(other, output).is_file() for output in STAGES[stage].outputs)
            if done.get("inputs") == inputs and there and done.get("outputs") == _outputs(stage, other):
                return other
        return None

    def _inputs(self, stage: str) -> dict[str, Any]:
        """Return a stage's fingerprint, and the inputs that the fingerprint does not cover."""
        inputs = fingerprint(stage, self._params, self._folder)
        if stage == "validate":
            inputs["data"] = _listing(self._folder.data)
        checkpoint = Path(self._params.backbone.checkpoint)
        if stage == "fetch" and checkpoint.is_file():
            inputs["checkpoint"] = [checkpoint.stat().st_size, checkpoint.stat().st_mtime_ns]
        if stage == "fetch" and (parts := checkpoint if checkpoint.is_dir() else _beside_index(checkpoint)):
            inputs["checkpoint_parts"] = _listing(parts)
        return inputs


def _done(folder: RunFolder, stage: str) -> dict[str, Any]:
    """Return a stage's record; empty if there is none or it is damaged."""
    try:
        content = json.loads(folder.done(stage).read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _beside_index(checkpoint: Path) -> Path | None:
    """Return the folder of a checkpoint in parts, given the path of its index; None for a checkpoint of one file."""
    return checkpoint.parent if checkpoint.name.endswith(".index.json") and checkpoint.is_file() else None


def _outputs(stage: str, folder: RunFolder) -> dict[str, str]:
    return {attribute: files.sha256_file(getattr(folder, attribute)) for attribute in STAGES[stage].outputs}


def _listing(data: Path) -> str:
    """Return a hash over path, size and time of every file below a folder.

    Reading all images would take as long as validating them. A file that is only touched costs one more validation,
    which gives the same manifest.
    """
    paths = sorted(path for path in data.rglob("*") if path.is_file())
    rows = [[path.relative_to(data).as_posix(), path.stat().st_size, path.stat().st_mtime_ns] for path in paths]
    return files.sha256_text(files.canonical_json(rows))
