"""Labelled squares in a folder, and values with which `fit` trains the mite on them in a second or two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mite
import small_project
from PIL import Image

PER_CLASS = 10


def write_squares(root: Path, side: int = 10, per_class: int = PER_CLASS, seed: int = 0) -> Path:
    """One folder per class with squares of its colour, below `root`."""
    for index, (pixels, label) in enumerate(zip(*mite.pixels_and_labels(per_class, seed, side), strict=True)):
        path = root / mite.CLASSES[label] / f"{index // len(mite.CLASSES)}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return root


def mite_values(root: Path, **changes: Any) -> dict[str, Any]:
    """Overrides for the mite, whose checkpoint lies below `root`; `changes` have two underscores for the dot."""
    checkpoint = root / "mite.safetensors"
    if not checkpoint.exists():
        mite.write_backbone(checkpoint)
    dotted = {name.replace("__", "."): value for name, value in changes.items()}
    return {**small_project.SETTINGS, "backbone.checkpoint": str(checkpoint), **dotted}
