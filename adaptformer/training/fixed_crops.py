"""The crops of training images: a new random crop at every draw, or one of a few fixed crops (`training.fixed_crops`).

Shapes: n images of the training split, N draws, V views.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adaptformer.base import randomness
from adaptformer.config.params import TrainingParams
from adaptformer.data import augmentation


def count(params: TrainingParams) -> int:
    """Return the number V of fixed crops per image, mirrored ones included; 0 if every draw has a new crop."""
    return params.fixed_crops * (2 if params.flip else 1)


def boxes(
    params: TrainingParams, shapes: NDArray[np.int64], order: NDArray[np.int64], *key: int
) -> tuple[Tensor, Tensor | None]:
    """Return the crop of each draw [N, 5], in the form of augmentation.random_boxes, and the number of its view [N].

    `shapes` [n, 2] are those of the images, `order` [N] is the image of each draw. An image that is drawn twice gets
    two crops or two fixed crops; all views are equally likely. View v of image i has the number i V + v. Without fixed
    views there are no numbers (None).
    """
    views = count(params)
    if not views:
        return augmentation.random_boxes(shapes[order], params.crop_scale, params.crop_ratio, params.flip, *key), None
    drawn_views = randomness.generator("view", *key).integers(views, size=len(order))
    return fixed(params, shapes)[order, drawn_views], torch.from_numpy(order * views + drawn_views)


def fixed(params: TrainingParams, shapes: NDArray[np.int64]) -> Tensor:
    """Return the crops [n, V, 5] of all fixed crops, which depend on the seed alone."""
    crops = [
        augmentation.random_boxes(shapes, params.crop_scale, params.crop_ratio, False, params.seed, 0, view)
        for view in range(params.fixed_crops)
    ]
    if params.flip:
        mirror = torch.tensor([0, 0, 0, 0, 1])
        crops += [crop + mirror for crop in crops]
    return torch.stack(crops, dim=1)
