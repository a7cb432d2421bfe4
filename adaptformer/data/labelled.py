"""The images of one split with their class indices, and the photos that training crops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adaptformer.data import manifest as manifests
from adaptformer.data.cache import ImageCache, load_images, load_photos
from adaptformer.data.eval_images import Images, Squares
from adaptformer.data.preprocessing import ImageContract
from adaptformer.data.train_images import StoredImages


@dataclass(frozen=True)
class LabelledImages:
    """Stored images [N, S, S, 3] uint8 as evaluation sees them, class indices [N], and each file's path and sha256."""

    images: Images
    labels: NDArray[np.int64]
    paths: list[str]
    sha256: list[str]


class Crops(NamedTuple):
    """The random crops of training: the range of a crop's share of the area, and of its ratio of width to height."""

    scale: tuple[float, float]
    ratio: tuple[float, float]


class TrainingImages(NamedTuple):
    """The train split: `labelled` as evaluation sees it, and the `photos`, in the same order, that training crops."""

    labelled: LabelledImages
    photos: StoredImages


@dataclass(frozen=True)
class DataSet:
    """The images of a manifest in `folder`, read by a contract; labels are indices into `classes`.

    All methods raise UserError if the files no longer match the manifest.
    """

    manifest: pd.DataFrame
    classes: Sequence[str]
    folder: Path
    contract: ImageContract
    cache: ImageCache

    def split(self, name: str) -> LabelledImages:
        """Return one split as evaluation sees it, its images cached."""
        rows = manifests.rows(self.manifest, name)
        return self._labelled(rows, self._squares(rows))

    def training(self, crops: Crops, evaluated: NDArray[np.int64]) -> TrainingImages:
        """Return the train split, with the images of the rows `evaluated` only, and all photos to crop.

        So only the few `evaluated` images are decoded twice.
        """
        rows, photos = manifests.rows(self.manifest, "train"), self.photos(crops)
        images = photos if isinstance(photos, Squares) else self._squares(rows, evaluated)
        return TrainingImages(self._labelled(rows, images), photos)

    def photos(self, crops: Crops) -> StoredImages:
        """Return the images that training crops: those of the train split, in the order of `split`.

        They keep their aspect ratio if `contract.resize` is "crop" and crops are random. Otherwise they are the squares
        of `split`: padded, squashed, or the centre, which equals a crop of the whole area with ratio 1.
        """
        rows = manifests.rows(self.manifest, "train")
        if self.contract.resize == "crop" and crops != ((1, 1), (1, 1)):
            return load_photos(rows, self.folder, self.contract, self.cache, crops.scale[0])
        return self._squares(rows)

    def _squares(self, rows: pd.DataFrame, indices: NDArray[np.int64] | None = None) -> Squares:
        return load_images(rows, self.folder, self.contract, self.cache, indices)

    def _labelled(self, rows: pd.DataFrame, images: Images) -> LabelledImages:
        index = {name: number for number, name in enumerate(self.classes)}
        labels = np.array([index[label] for label in rows["label"]], dtype=np.int64)
        return LabelledImages(images, labels, list(rows["path"]), list(rows["sha256"]))
