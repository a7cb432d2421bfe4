"""Every file that a run reads or writes, named once, and the lock of their folder."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptformer.base import files, integrity
from adaptformer.base.errors import UserError

if TYPE_CHECKING:
    from adaptformer.config.params import Params

DEFAULT = Path("artifacts")
RUNS = DEFAULT / "runs"


class RunFolder:
    """The paths of one run.

    The attributes up to `parity` are the single files that the stages pass to each other and that DVC records. The
    others are git-ignored and unknown to DVC: they hold times and hosts, or are of use to one run only. An `isolated`
    folder is not the default one: it belongs to a run with other params than params.yaml, below `runs/`. One that is
    `alone` belongs to no checkout (`adaptformer fit`): it is isolated, and has caches of its own.
    """

    def __init__(
        self, root: Path = DEFAULT, data: Path = Path("data"), *, isolated: bool = False, alone: bool = False
    ) -> None:
        self.root = root
        self.isolated = isolated or alone
        self.alone = alone
        self.data = data
        self.manifest = root / "manifest.csv"
        self.manifest_checksum = integrity.beside(self.manifest)
        self.data_report = root / "data_report.html"
        self.findings = root / "data_findings.csv"
        self.backbone = root / "backbone.safetensors"
        self.backbone_card = root / "backbone.json"
        self.adapter = root / "adapter.safetensors"
        self.history = root / "history.csv"
        self.curves = root / "plots" / "curves.png"
        self.metrics = root / "metrics.json"
        self.predictions = root / "predictions.csv"
        self.report = root / "report.html"
        self.confusion = root / "plots" / "confusion.png"
        self.per_class = root / "plots" / "per_class.png"
        self.calibration = root / "plots" / "calibration.png"
        self.examples = root / "plots" / "examples.png"
        self.model_card = root / "model_card.md"
        self.profile = root / "profile.safetensors"
        self.model = root / "model.onnx"
        self.model_weights = root / "model.onnx.data"
        self.parity = root / "parity.json"

        self.faults = root / "data_faults.csv"
        # One of each for all runs of a checkout; they can be computed again.
        self.image_cache = self._shared / "cache"
        self.stat_cache = self.image_cache / "facts.safetensors"
        self.embeddings = self.image_cache / "embeddings"
        self.probe_features = self.image_cache / "probe_features"
        self.label_report = root / "labels.html"
        self.label_ranking = root / "labels.csv"
        self.resume_state = root / "resume.safetensors"
        self.registration = root / "registration.json"
        self.tracking = root / "tracking.json"
        self.params = root / "params.json"
        self.process_errors = root / "timing" / "processes.log"
        self._lock = root / ".lock"

    @property
    def _shared(self) -> Path:
        """The default folder of the checkout, or this folder if it is alone."""
        return self.root.parent.parent if self.isolated and not self.alone else self.root

    def to_dict(self) -> dict[str, Any]:
        """Return the folder as plain values for another process of this machine; `from_dict` restores it."""
        return {"root": str(self.root), "data": str(self.data), "isolated": self.isolated, "alone": self.alone}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> RunFolder:
        """Return the folder that `to_dict` described."""
        return cls(**{**content, "root": Path(content["root"]), "data": Path(content["data"])})

    def timing(self, stage: str) -> Path:
        """Return the file of a stage's seconds, throughput and host."""
        return self.root / "timing" / f"{stage}.json"

    def done(self, stage: str) -> Path:
        """Return the file in which a stage's inputs and outputs are recorded, unless DVC records them."""
        return self.root / f"{stage}.done.json"

    def unfinished(self, stage: str) -> Path:
        """Return the file that exists while a stage runs and after it failed: the values that it was run with."""
        return self.root / f"{stage}.unfinished.json"

    def others(self) -> list[RunFolder]:
        """Return the other run folders of the same checkout, the default one first."""
        default = self._shared
        roots = [] if self.alone else [default, *sorted((default / RUNS.name).glob("*"))]
        there = [root for root in roots if root != self.root and root.is_dir()]
        return [RunFolder(root, self.data, isolated=root != default) for root in there]

    @contextlib.contextmanager
    def lock(self, holder: str) -> Iterator[None]:
        """Hold the folder for `holder`, the command that is shown to other processes, such as "adaptformer train".

        The system releases the lock when the process dies. Raises UserError if the folder is in use (it names the
        holder), or if the system refuses to write there.
        """
        from filelock import FileLock, Timeout  # predicting, which names files here, needs no locks

        lock = FileLock(self._lock, timeout=0, mode=0o644)
        with files.refusals(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            try:
                held = lock.acquire()
            except Timeout as error:
                raise UserError(
                    f"{self.root}/ is in use by {self._held_by()}",
                    "wait until it ends, or stop it, then run the same command again",
                ) from error
        with held:
            self._note({"holder": holder, "pid": os.getpid(), "host": socket.gethostname()})
            self._remove_leftovers()
            yield
            self._note({})

    def _note(self, content: dict[str, Any]) -> None:
        """Record who holds the lock, or nobody; if the disk is full, others see "another run" instead."""
        with contextlib.suppress(OSError):
            self._lock.write_text(json.dumps(content) if content else "")

    def _remove_leftovers(self) -> None:
        """Remove the partial files of a killed run: the lock allows no other writer."""
        for folder in (self.root, self.curves.parent, self.timing("any").parent):
            for leftover in folder.glob(".*.partial*"):
                leftover.unlink(missing_ok=True)

    def _held_by(self) -> str:
        try:
            note = json.loads(self._lock.read_text())
            return f"`{note['holder']}` (process {note['pid']} on {note['host']})"
        except (OSError, ValueError, KeyError):
            return "another run"


def folder_for(present: Params, params: Params) -> RunFolder:
    """Return the folder of a run with these params, if params.yaml holds `present`.

    It is the default folder unless the two differ in params that results depend on. Otherwise the folder's name is a
    hash of all those params, so that a retry finds its own files and no other run does.
    """
    from adaptformer.config.params import tracked  # predicting with a model's file needs no params.yaml

    return RunFolder() if tracked(params) == tracked(present) else isolated_folder(params)


def isolated_folder(params: Params) -> RunFolder:
    """Return a separate folder for a run with these params, even if they equal those of params.yaml."""
    from adaptformer.config.params import tracked

    return RunFolder(RUNS / files.sha256_text(files.canonical_json(tracked(params)))[:12], isolated=True)
