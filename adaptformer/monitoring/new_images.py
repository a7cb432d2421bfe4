"""New images with a model's answers, and the backbone's features of them.

Shapes: N images, C classes, D width of the backbone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from adaptformer.base.errors import UserError
from adaptformer.data.cache import ImageCache
from adaptformer.model.embedding import Embedding
from adaptformer.monitoring import label_next
from adaptformer.prediction.predictor import Predictor


@dataclass(frozen=True)
class NewImages:
    """New images in `folder`: a table like a manifest, probabilities [N, C], and why each other file is left out."""

    folder: Path
    table: pd.DataFrame
    probabilities: NDArray[np.float64]
    unreadable: dict[str, str]

    @property
    def confidence(self) -> NDArray[np.float64]:
        """The largest probability of each image [N]."""
        largest: NDArray[np.float64] = self.probabilities.max(axis=1)
        return largest

    @cached_property
    def margins(self) -> NDArray[np.float64]:
        """The largest minus the second largest probability of each image [N]."""
        return label_next.margins(self.probabilities)


@dataclass(frozen=True)
class FeatureStorage:
    """The device that computes the backbone's features, and the folders of decoded images and finished features."""

    device: torch.device
    images: ImageCache
    features: Path


@dataclass(frozen=True)
class Features:
    """The backbone's features of images, which are computed only if they are needed."""

    backbone: Path
    predictor: Predictor
    storage: FeatureStorage

    @cached_property
    def embedding(self) -> Embedding:
        """The frozen backbone as a function from images to features. Raises UserError if its file is missing."""
        if not self.backbone.is_file():
            raise UserError(
                f"{self.backbone}, which computes the features, is missing", "run `adaptformer fetch` first"
            )
        return Embedding(self.backbone, self.predictor.contract, self.storage.device, self.storage.features)

    def of(self, table: pd.DataFrame, folder: Path) -> NDArray[np.float32]:
        """Return the features [n, D] of the images of a table."""
        return self.embedding.of_data(table, folder, self.storage.images)
