"""Training images that keep their aspect ratio, so that random crops reach the whole photo at its own sharpness.

N images, H x W pixels of a file's image, h x w of the stored one, S = contract.stored_size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from adaptformer.data.contract import ImageContract
from adaptformer.data.resizing import Pixels, resample_filter

MAX_ASPECT = 3
"""The longest side that is stored, over the shorter one; the ends of a longer strip are cut off."""
MAX_SHORTER_SIDE = 2
"""The longest shorter side that is stored, over S: a bound on disk space, paid for by the smallest crops."""


@dataclass(frozen=True)
class Photos:
    """N images of any size, one behind the other: `pixels` is flat uint8, `shapes` [N, 2] are heights and widths."""

    pixels: NDArray[np.uint8]
    shapes: NDArray[np.int64]

    @classmethod
    def of_one_size(cls, images: NDArray[np.uint8]) -> Photos:
        """Return images [N, h, w, 3] as photos, without copying."""
        return cls(images.reshape(-1), np.tile(np.array(images.shape[1:3], np.int64), (len(images), 1)))

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        ends: NDArray[np.int64] = (3 * self.shapes.prod(axis=1)).cumsum()
        return ends

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: int) -> Pixels:
        """Return one image [h, w, 3] without copying."""
        height, width = self.shapes[index]
        end = self._ends[index]
        return self.pixels[end - 3 * height * width : end].reshape(height, width, 3)


def stored_shapes(
    heights: NDArray[np.int64], widths: NDArray[np.int64], contract: ImageContract, smallest_share: float
) -> NDArray[np.int64]:
    """Return height and width [N, 2] at which images of H x W pixels are stored for crops of at least `smallest_share`.

    A square crop of the share a of a square image of side x has the side x √a. The shorter side is therefore
    size / √smallest_share, which no crop has to enlarge, but at least S, at most MAX_SHORTER_SIDE times S, and never
    longer than the image's own. The longer side follows by the aspect ratio, bounded to MAX_ASPECT.
    """
    sharp = math.ceil(contract.size / math.sqrt(smallest_share))
    limit = min(max(contract.stored_size, sharp), MAX_SHORTER_SIDE * contract.stored_size)
    shorter, longer = np.minimum(heights, widths), np.maximum(heights, widths)
    short = np.minimum(shorter, limit)
    long = np.rint(np.minimum(longer, MAX_ASPECT * shorter) * short / shorter).astype(np.int64)
    return np.stack([np.where(heights <= widths, short, long), np.where(heights <= widths, long, short)], axis=1)


def to_photo(image: Pixels, shape: tuple[int, int], contract: ImageContract) -> Pixels:
    """Shrink an image [H, W, 3] to its stored shape [h, w, 3], antialiased, after cutting the ends off a strip."""
    height, width = image.shape[:2]
    longest = MAX_ASPECT * min(height, width)
    top, left = max(0, height - longest) // 2, max(0, width - longest) // 2
    kept = Image.fromarray(image[top : top + longest, left : left + longest])
    return np.array(kept.resize(shape[::-1], resample_filter(contract.interpolation)))
