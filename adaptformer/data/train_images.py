"""Training images that keep their aspect ratio, so that random crops cover the whole photo at full sharpness.

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

from adaptformer.data import thread_map
from adaptformer.data.decoding import Box, Pixels, decode_reduced
from adaptformer.data.preprocessing import ImageContract
from adaptformer.data.resizing import resample_filter

MAX_ASPECT = 3
"""The largest stored ratio of longer to shorter side; the ends of a longer strip are cut off."""
MAX_SHORTER_SIDE = 2
"""The largest stored shorter side, as a multiple of S. It bounds disk space; the smallest crops lose sharpness."""


class StoredImages(Protocol):
    """N images by index, in memory, in a file or decoded on access; `shapes` [N, 2] are heights and widths."""

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
    """N images of any size, concatenated: `pixels` is flat uint8, `shapes` [N, 2] are heights and widths."""

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
        """Return the index in `pixels` at which an image begins."""
        return int(self._ends[index] - 3 * self.shapes[index].prod())

    def take(self, indices: Iterable[int]) -> list[Pixels]:
        """Return several images without copying."""
        return [self[index] for index in indices]


@dataclass(frozen=True)
class StreamedPhotos:
    """N images that `read` decodes from their files on each access, for a set too large for the cache."""

    shapes: NDArray[np.int64]
    read: Callable[[int], Pixels]

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: int) -> Pixels:
        """Return one image [h, w, 3]."""
        return self.read(index)

    def take(self, indices: Iterable[int]) -> list[Pixels]:
        """Return several images, decoded by one thread per core."""
        return list(thread_map.in_order(self.read, indices))


def stored_shapes(
    heights: NDArray[np.int64], widths: NDArray[np.int64], contract: ImageContract, smallest_share: float
) -> NDArray[np.int64]:
    """Return height and width [N, 2] at which images of H x W pixels are stored for crops of at least `smallest_share`.

    A square crop with a share a of the area of a square image of side x has the side x √a. The shorter side is
    therefore size / √smallest_share, so that no crop is enlarged; it is at least S, at most MAX_SHORTER_SIDE times S,
    and never longer than the image's own. The longer side follows from the aspect ratio, which is at most MAX_ASPECT.
    """
    sharp = math.ceil(contract.size / math.sqrt(smallest_share))
    limit = min(max(contract.stored_size, sharp), MAX_SHORTER_SIDE * contract.stored_size)
    shorter, longer = np.minimum(heights, widths), np.maximum(heights, widths)
    short = np.minimum(shorter, limit)
    long = np.rint(np.minimum(longer, MAX_ASPECT * shorter) * short / shorter).astype(np.int64)
    return np.stack([np.where(heights <= widths, short, long), np.where(heights <= widths, long, short)], axis=1)


def photo(content: bytes, shape: tuple[int, int], contract: ImageContract) -> Pixels:
    """Return a file's image as it is stored for training: decoded at the contract's scale, shrunk to `shape` [h, w].

    There is no size limit, because files in a manifest have passed it. Raises DamagedImage for bytes that are not a
    usable image.
    """
    decoded = decode_reduced(content, contract.jpeg_min_scale * min(shape), None, contract.sixteen_bit_max)
    return to_photo(decoded.pixels, shape, contract, decoded.box)


def to_photo(image: Pixels, shape: tuple[int, int], contract: ImageContract, box: Box | None = None) -> Pixels:
    """Shrink an image [H, W, 3], or its `box`, to its stored shape [h, w, 3], antialiased.

    The ends of a long strip are cut off first, at whole pixels.
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
