"""Features of a linear probe, kept between runs: of many runs on one data set, only the first runs the backbone."""

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

from adaptformer.base import files
from adaptformer.base.errors import UserError
from adaptformer.model import device as devices
from adaptformer.model import tensor_file

log = logging.getLogger("adaptformer")

_ACT_LATER = frozenset(
    {
        "schedule", "rounds", "block_order", "epochs", "rollback_above", "reset_statistics", "batch_size",
        "gradient_accumulation", "optimiser", "base_lr", "scale_lr", "momentum", "weight_decay", "warmup_fraction",
        "warmup_steps", "label_smoothing", "class_balance", "class_balance_power", "selection_metric",
    }
)  # fmt: skip
"""Training settings that do not affect features. If one is missing here, features are recomputed, but never wrong."""


@dataclass(frozen=True)
class FeatureCache:
    """The file of one set of features in a folder whose files take at most `gigabytes`."""

    path: Path
    gigabytes: float

    @property
    def _named(self) -> dict[str, str]:
        """The file's metadata: a name that stands for everything on which the features depend."""
        return {"features": self.path.stem}

    def read(self, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor] | None:
        """Return the features by source, or None if the file is missing, damaged or has other shapes."""
        if not self.path.is_file():
            return None
        try:
            features, metadata = tensor_file.read(self.path)
        except UserError:
            metadata = {}
        if metadata != self._named:  # no checksums, or those of another file
            log.warning("%s is damaged: the features are computed again", self.path)
            return None
        if {name: tensor.shape for name, tensor in features.items()} != shapes:
            return None
        with contextlib.suppress(OSError):  # the file may belong to another user
            os.utime(self.path)
        log.info("the features of all images are from an earlier run (%s)", self.path)
        return features

    def write(self, features: dict[str, Tensor]) -> None:
        """Store the features; first remove the least recently used ones if the folder would get too large.

        On a full disk the features are not stored, and only their reuse is lost.
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


def of_run(folder: Path, fingerprint: Mapping[str, Any], device: torch.device, gigabytes: float) -> FeatureCache:
    """Return the file of a run's features, named by the parts of `fingerprint` on which the features depend."""
    training = {name: value for name, value in fingerprint["training"].items() if name not in _ACT_LATER}
    key = {**fingerprint, "training": training, "rounding": devices.rounding(device)}
    return FeatureCache(folder / f"{files.sha256_text(files.canonical_json(key))}.safetensors", gigabytes)
