"""Training images that keep their aspect ratio, so that random crops reach the whole photo at its own sharpness.

N images, H x W pixels of a file's image, h x w of the stored one, S = contract.stored_size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from adaptformer.data import workers
from adaptformer.data.contract import ImageContract
from adaptformer.data.decoding import Box, Pixels, decode_reduced
from adaptformer.data.resizing import resample_filter

MAX_ASPECT = 3
"""The longest side that is stored, over the shorter one; the ends of a longer strip are cut off."""
MAX_SHORTER_SIDE = 2
"""The longest shorter side that is stored, over S: a bound on disk space, paid for by the smallest crops."""


class StoredImages(Protocol):
    """N images by index, wherever they come from; `shapes` [N, 2] are heights and widths."""

    @property
    def shapes(self) -> NDArray[np.int64]:
        """Height and width of each image [N, 2]."""

    def __len__(self) -> int:
        """Return N."""

    def __getitem__(self, index: int, /) -> Pixels:
        """Return one image [h, w, 3]."""

    def take(self, indices: Iterable[int]) -> list[Pixels]:
        """Return several images, in the order of `indices`."""


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
        return self.pixels[self.start(index) : self._ends[index]].reshape(height, width, 3)

    def start(self, index: int) -> int:
        """Return where an image begins in `pixels`."""
        return int(self._ends[index] - 3 * self.shapes[index].prod())

    def take(self, indices: Iterable[int]) -> list[Pixels]:
        """Return several images without copying."""
        return [self[index] for index in indices]


@dataclass(frozen=True)
class StreamedPhotos:
    """N images that `read` makes from their files each time they are asked for: a set too large for the cache."""

    shapes: NDArray[np.int64]
    read: Callable[[int], Pixels]

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: int) -> Pixels:
        """Return one image [h, w, 3]."""
        return self.read(index)

    def take(self, indices: Iterable[int]) -> list[Pixels]:
        """Return several images, decoded by one thread a core."""
        return list(workers.in_order(self.read, indices))


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


def photo(content: bytes, shape: tuple[int, int], contract: ImageContract) -> Pixels:
    """Return a file's image as it is stored for training: decoded at the contract's scale, shrunk to `shape` [h, w].

    Its size is no matter, for a manifest names the file. Raises DamagedImage when the bytes are no usable image.
    """
    decoded = decode_reduced(content, contract.oversampling * min(shape), None, contract.sixteen_bit_max)
    return to_photo(decoded.pixels, shape, contract, decoded.box)


def to_photo(image: Pixels, shape: tuple[int, int], contract: ImageContract, box: Box | None = None) -> Pixels:
    """Shrink an image, the `box` of [H, W, 3] or the whole of it, to its stored shape [h, w, 3], antialiased.

    The ends of a strip are cut off before, at whole pixels.
    """
    height, width = image.shape[:2]
    left, top, right, bottom = box or (0, 0, width, height)
    if (height, width) == shape and (left, top, right, bottom) == (0, 0, width, height):
        return image
    longest = MAX_ASPECT * min(height, width)
    above, before = max(0, height - longest) // 2, max(0, width - longest) // 2
    kept = Image.fromarray(image[above : above + longest, before : before + longest])
    within = (
        max(left - before, 0), max(top - above, 0), min(right - before, kept.width), min(bottom - above, kept.height)
    )  # fmt: skip
    return np.array(kept.resize(shape[::-1], resample_filter(contract.interpolation), box=within))
