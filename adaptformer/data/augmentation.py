"""Random crops and flips for training, and the tensors that a model takes.

Crops are those of torchvision's RandomResizedCrop (Szegedy et al., arXiv 1409.4842, section 6), as published recipes
use them. Shapes: N draws, B images of a batch, h x w pixels of a stored image, s model side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from adaptformer.base import randomness
from adaptformer.data.decoding import Pixels

_ATTEMPTS = 10  # as torchvision's RandomResizedCrop; then the largest centred crop within the ratio bounds


def random_boxes(
    shapes: NDArray[np.int64], scale: tuple[float, float], ratio: tuple[float, float], flip: bool, *key: int
) -> Tensor:
    """Return one crop for each draw as [N, 5] int64: top, left, height, width in pixels, and 1 to mirror or 0.

    `shapes` [N, 2] are height and width of the image of each draw. The share of the area is uniform within `scale`, the
    logarithm of width over height within that of `ratio`; both are drawn again if the box does not fit. After ten
    attempts the crop is the largest centred one within `ratio`. A row depends only on its shape, its index and `key`.
    """
    numbers = randomness.uniform((len(shapes), 2 * _ATTEMPTS + 3), "crop", *key)
    heights, widths = shapes[:, :1], shapes[:, 1:]
    area = heights * widths * (scale[0] + (scale[1] - scale[0]) * numbers[:, :_ATTEMPTS])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = np.exp(low + (high - low) * numbers[:, _ATTEMPTS:-3])
    tried = np.stack([np.rint(np.sqrt(area / aspect)), np.rint(np.sqrt(area * aspect))], axis=2).astype(np.int64)
    inside = (tried > 0) & (tried <= shapes[:, np.newaxis])
    fits = inside[..., 0] & inside[..., 1]
    sides = tried[np.arange(len(shapes)), fits.argmax(axis=1)]
    corners = (numbers[:, -3:-1] * (shapes - sides + 1)).astype(np.int64)
    none_fits = ~fits.any(axis=1)
    sides[none_fits] = _largest_sides(shapes[none_fits], ratio)
    corners[none_fits] = (shapes[none_fits] - sides[none_fits]) // 2
    mirrored = (numbers[:, -1:] < 0.5) & flip
    return torch.from_numpy(np.concatenate([corners, sides, mirrored], axis=1))


def _largest_sides(shapes: NDArray[np.int64], ratio: tuple[float, float]) -> NDArray[np.int64]:
    """Return height and width [N, 2] of the largest boxes within the bounds of `ratio`."""
    heights, widths = shapes[:, 0], shapes[:, 1]
    largest = np.stack([np.minimum(heights, widths / ratio[0]), np.minimum(widths, heights * ratio[1])], axis=1)
    sides: NDArray[np.int64] = np.maximum(np.rint(largest), 1).astype(np.int64)
    return sides


def crop(images: Sequence[Pixels], boxes: Tensor, size: int, interpolation: str) -> Tensor:
    """Return the `boxes` [B, 5] of B images [h, w, 3], resized to [B, size, size, 3] uint8; shrinking is antialiased.

    It uses as many threads as torch; their number does not change the result.
    """
    cropped = torch.empty((len(images), size, size, 3), dtype=torch.uint8)
    places = boxes.tolist()
    threads = min(torch.get_num_threads(), len(images))

    def fill(first: int) -> None:
        for index in range(first, len(images), threads):
            top, left, height, width, mirrored = places[index]
            box = torch.from_numpy(np.array(images[index][top : top + height, left : left + width]))
            channels_first = box.permute(2, 0, 1).unsqueeze(0)
            resized = F.interpolate(channels_first, (size, size), mode=interpolation, antialias=True)
            upright = resized[0].permute(1, 2, 0)
            cropped[index] = upright.flip(1) if mirrored else upright

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(fill, range(threads)))  # a list, so that an error is raised here
    return cropped


def planes(images: Tensor) -> Tensor:
    """Return uint8 images [B, s, s, 3] as float32 [B, 3, s, s] within 0 … 255."""
    return images.permute(0, 3, 1, 2).float()


def centre_crop(images: Tensor, size: int) -> Tensor:
    """Return the centres of uint8 images [B, S, S, 3] as float32 [B, 3, size, size] within 0 … 255."""
    start = (images.shape[1] - size) // 2
    return planes(images[:, start : start + size, start : start + size])


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return images [B, 3, s, s] within 0 … 255, scaled to 0 … 1, minus `mean`, divided by `std` [3]."""
    return (images / 255 - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
