"""The images of one split with their class indices, and the photos that training crops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adaptformer.data import manifest as manifests
from adaptformer.data.cache import ImageCache, load_images, load_photos
from adaptformer.data.contract import ImageContract
from adaptformer.data.photos import StoredImages
from adaptformer.data.squares import Images, Squares


@dataclass(frozen=True)
class LabelledImages:
    """Stored images [N, S, S, 3] uint8 as evaluation sees them, class indices [N], and each file's path and sha256."""

    images: Images
    labels: NDArray[np.int64]
    paths: list[str]
    sha256: list[str]


def load(
    manifest: pd.DataFrame, split: str, classes: Sequence[str], data: Path, contract: ImageContract, cache: ImageCache
) -> LabelledImages:
    """Return one split, its images cached. Raises UserError if `data/` no longer matches the manifest."""
    rows = manifests.rows(manifest, split)
    return _labelled(rows, classes, load_images(rows, data, contract, cache))


def load_training(
    manifest: pd.DataFrame,
    classes: Sequence[str],
    data: Path,
    contract: ImageContract,
    cache: ImageCache,
    *,
    crop_scale: tuple[float, float],
    crop_ratio: tuple[float, float],
    judged: NDArray[np.int64],
) -> tuple[LabelledImages, StoredImages]:
    """Return the train split as evaluation sees it, with the images of the rows `judged` only, and all photos to crop.

    So only the few `judged` images are decoded twice. Raises UserError if `data/` no longer matches the manifest.
    """
    rows = manifests.rows(manifest, "train")
    photos = training_photos(manifest, data, contract, cache, crop_scale=crop_scale, crop_ratio=crop_ratio)
    images = photos if isinstance(photos, Squares) else load_images(rows, data, contract, cache, judged)
    return _labelled(rows, classes, images), photos


def _labelled(rows: pd.DataFrame, classes: Sequence[str], images: Images) -> LabelledImages:
    index = {name: number for number, name in enumerate(classes)}
    labels = np.array([index[label] for label in rows["label"]], dtype=np.int64)
    return LabelledImages(images, labels, list(rows["path"]), list(rows["sha256"]))


def training_photos(
    manifest: pd.DataFrame,
    data: Path,
    contract: ImageContract,
    cache: ImageCache,
    *,
    crop_scale: tuple[float, float],
    crop_ratio: tuple[float, float],
) -> StoredImages:
    """Return the images that training crops: those of the train split, in the order of `load`.

    They keep their aspect ratio if `contract.resize` is "crop" and crops are random. Otherwise they are the squares of
    `load`: padded, squashed, or the centre, which equals a crop of the whole area with ratio 1.
    Raises UserError if `data/` no longer matches the manifest.
    """
    rows = manifests.rows(manifest, "train")
    if contract.resize == "crop" and (crop_scale, crop_ratio) != ((1, 1), (1, 1)):
        return load_photos(rows, data, contract, cache, crop_scale[0])
    return load_images(rows, data, contract, cache)
