"""The features of a probe, kept between runs: of many rates tried on one data set, only the first runs the backbone."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adaptformer import files
from adaptformer.errors import UserError
from adaptformer.model import device as devices
from adaptformer.model import tensor_file

log = logging.getLogger("adaptformer")

_ACT_LATER = frozenset(
    {
        "schedule", "rounds", "order", "epochs", "guard", "reset_statistics", "batch_size", "accumulate", "optimiser",
        "base_lr", "scale_lr", "momentum", "weight_decay", "warmup", "warmup_steps", "label_smoothing", "balance",
        "balance_power", "selection_metric",
    }
)  # fmt: skip
"""The settings of training that features do not depend on. One that is missing here costs a reuse, not a result."""


@dataclass(frozen=True)
class StoredFeatures:
    """The file of one set of features in a folder whose files take at most `gigabytes`."""

    path: Path
    gigabytes: float

    @property
    def _named(self) -> dict[str, str]:
        """What the file says of itself: a name that stands for all that decides the features."""
        return {"features": self.path.stem}

    def read(self, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor] | None:
        """Return the features by source; None where they are not stored with these shapes, or the file is damaged."""
        if not self.path.is_file():
            return None
        try:
            found, metadata = tensor_file.read(self.path)
        except UserError:
            metadata = {}
        if metadata != self._named:  # without checksums, another file's, or none at all
            log.warning("%s is damaged: the features are computed again", self.path)
            return None
        if {name: tensor.shape for name, tensor in found.items()} != shapes:
            return None
        with contextlib.suppress(OSError):  # another user's
            os.utime(self.path)
        log.info("the features of all images are those of an earlier run (%s)", self.path)
        return found

    def write(self, features: dict[str, Tensor]) -> None:
        """Store the features, after removing those unused for longest where the folder would get too large.

        A disk that is full costs the reuse alone.
        """
        size = sum(tensor.numel() * tensor.element_size() for tensor in features.values())
        others = sorted(self.path.parent.glob(f"*{self.path.suffix}"), key=lambda path: path.stat().st_mtime_ns)
        excess = size + sum(path.stat().st_size for path in others) - self.gigabytes * 1e9
        for path in others:
            if excess > 0:
                excess -= path.stat().st_size
                path.unlink(missing_ok=True)
        try:
            tensor_file.write(self.path, features, self._named)
        except UserError as error:
            log.warning("the features are not kept for later runs: %s", error.cause)


def of_run(folder: Path, fingerprint: Mapping[str, Any], device: torch.device, gigabytes: float) -> StoredFeatures:
    """Return where the features of a run are stored, whose result depends on all that is in `fingerprint`."""
    tuning = {name: value for name, value in fingerprint["tuning"].items() if name not in _ACT_LATER}
    key = {**fingerprint, "tuning": tuning, "rounding": devices.rounding(device)}
    return StoredFeatures(folder / f"{files.sha256_text(files.canonical_json(key))}.safetensors", gigabytes)
