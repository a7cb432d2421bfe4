"""The images of one split with their class indices, and the photos that training crops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adaptformer.data import manifest as manifests
from adaptformer.data.cache import load_images, load_photos
from adaptformer.data.contract import ImageContract
from adaptformer.data.photos import Photos


@dataclass(frozen=True)
class LabelledImages:
    """Stored images [N, S, S, 3] uint8 as evaluation sees them, class indices [N], and each file's path and sha256."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    paths: list[str]
    sha256: list[str]


def load(
    manifest: pd.DataFrame, split: str, classes: Sequence[str], data: Path, contract: ImageContract, cache: Path
) -> LabelledImages:
    """Return one split, its images cached in the folder `cache`.

    Raises UserError when `data/` no longer matches the manifest.
    """
    rows = manifests.rows(manifest, split)
    index = {name: number for number, name in enumerate(classes)}
    labels = np.array([index[label] for label in rows["label"]], dtype=np.int64)
    return LabelledImages(load_images(rows, data, contract, cache), labels, list(rows["path"]), list(rows["sha256"]))


def training_photos(
    manifest: pd.DataFrame,
    data: Path,
    contract: ImageContract,
    cache: Path,
    *,
    crop_scale: tuple[float, float],
    crop_ratio: tuple[float, float],
) -> Photos:
    """Return what training crops: the images of the train split, in the order of `load`.

    They keep their aspect ratio where `contract.resize` is "crop" and crops are random. Otherwise they are the squares
    that `load` gives: padded or squashed, or the centre, which is what a crop of the whole area and ratio 1 keeps.
    Raises UserError when `data/` no longer matches the manifest.
    """
    rows = manifests.rows(manifest, "train")
    if contract.resize == "crop" and (crop_scale, crop_ratio) != ((1, 1), (1, 1)):
        return load_photos(rows, data, contract, cache, crop_scale[0])
    return Photos.of_one_size(load_images(rows, data, contract, cache))
