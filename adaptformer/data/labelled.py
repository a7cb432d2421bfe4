"""The images of one split with their labels as the model counts them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adaptformer.data import manifest as manifests
from adaptformer.data.cache import load_images
from adaptformer.data.contract import ImageContract


@dataclass(frozen=True)
class LabelledImages:
    """Stored images [N, S, S, 3] uint8, their class indices [N], and of their files path below data/ and sha256."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    paths: list[str]
    sha256: list[str]


def load(
    manifest: pd.DataFrame, split: str, classes: Sequence[str], data: Path, contract: ImageContract, cache: Path
) -> LabelledImages:
    """Return one split, its images through the folder `cache`.

    Raises UserError when `data/` no longer fits the manifest.
    """
    rows = manifests.rows(manifest, split)
    index = {name: number for number, name in enumerate(classes)}
    labels = np.array([index[label] for label in rows["label"]], dtype=np.int64)
    return LabelledImages(load_images(rows, data, contract, cache), labels, list(rows["path"]), list(rows["sha256"]))
