"""Test images that seem to be near duplicates of training or validation images, and top-1 without them.

`validate` finds them (checks.leaks). The accuracy on images that a model has seen says little about new images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptformer.base import csv_file
from adaptformer.base.errors import UserError
from adaptformer.config.params import ChecksParams
from adaptformer.evaluation.metrics import Evaluation

KIND = "leaks"
"""The kind of findings that are pairs of images of the same photo in different splits."""


def find(findings: Path, paths: Sequence[str], levels: ChecksParams) -> NDArray[np.bool_] | None:
    """Return a mask of the test images `paths` [N] that form a pair with an image of another split.

    None if such pairs were not searched for. Raises UserError if the findings of `validate` cannot be read.
    """
    if levels.leaks == "none":
        return None
    try:
        table = csv_file.read(findings)
        pairs = table.loc[table["kind"] == KIND, ["path", "other"]]
    except (OSError, ValueError, KeyError) as error:
        text = " ".join(str(error).split())
        raise UserError(f"{findings} cannot be read: {text}", "write it again with `adaptformer validate`") from error
    return np.isin(np.asarray(paths, dtype=object), pairs.to_numpy().ravel())


def numbers(evaluation: Evaluation, leaked: NDArray[np.bool_] | None) -> dict[str, float]:
    """Return the entries of metrics.json about leaked images [N]; none if they were not searched for."""
    if leaked is None:
        return {}
    count: dict[str, float] = {"leaked_images": int(leaked.sum())}
    return count if leaked.all() else count | {"top1_without_leaks": round(evaluation.share(~leaked).value, 6)}


def sentence(metrics: Mapping[str, Any]) -> str:
    """Return a sentence on the number of leaked test images and top-1 without them, from metrics.json."""
    count, images = metrics.get("leaked_images"), metrics["images"]
    if count is None:
        return "near duplicates of training images were not looked for (checks.leaks is none)"
    if not count:
        return f"none of the {images:,} images seems to be a near duplicate of a training or validation image"
    verb = "is a near duplicate" if count == 1 else "are near duplicates"
    share = f"{count:,} of {images:,} images {verb} of training or validation images"
    without = metrics.get("top1_without_leaks")
    return (
        f"{share}; no image is left without them" if without is None else f"{share}; {100 * without:.2f} % without them"
    )
