"""The training images over which the head's BatchNorm statistics are computed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from adaptformer.base import randomness
from adaptformer.config.params import TrainingParams

STATISTICS_IMAGES = 2000
"""Number of training images over which the statistics are computed; all, if there are fewer."""


def count(images: int, params: TrainingParams) -> int:
    """Return how many of `images` training images the statistics need: 0 if they are not recomputed."""
    return min(images, STATISTICS_IMAGES) if params.head_statistics == "recomputed" else 0


def rows(images: int, params: TrainingParams) -> NDArray[np.int64]:
    """Return the sorted indices of the training images for the statistics, which depend on the seed alone."""
    return np.sort(randomness.permutation(images, "head statistics", params.seed)[: count(images, params)])
