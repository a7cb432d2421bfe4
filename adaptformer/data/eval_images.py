"""The squares that evaluation sees; an image smaller than its square is kept at its own size.

N images, H x W pixels of a file's image, S = contract.stored_size.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adaptformer.data import thread_map
from adaptformer.data.decoding import Pixels, decode
from adaptformer.data.preprocessing import ImageContract
from adaptformer.data.resizing import square, to_square
from adaptformer.data.train_images import StoredImages


@dataclass(frozen=True)
class Squares:
    """N images, read by index, slice or array of indices as [S, S, 3] or [n, S, S, 3] uint8.

    `stored` are squares, or smaller images that are enlarged on each access, to the same pixels: an image of 32 pixels
    takes 3 KB instead of 196 KB, and enlarging takes far less time than the model. If only some of the N images are
    loaded, `rows` are their sorted indices; any other index raises IndexError.
    """

    stored: StoredImages
    contract: ImageContract
    count: int
    rows: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return self.count

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape (N, S, S, 3) of an array of all images."""
        side = self.contract.stored_size
        return self.count, side, side, 3

    @property
    def shapes(self) -> NDArray[np.int64]:
        """Height and width [N, 2] of the images as they are read, S x S each."""
        return np.full((self.count, 2), self.contract.stored_size, np.int64)

    def __getitem__(self, index: int | np.integer | slice | NDArray[np.int64]) -> NDArray[np.uint8]:
        indices = np.arange(self.count)[index]
        images = self.take(np.atleast_1d(indices).tolist())
        return images[0] if indices.ndim == 0 else np.array(images, np.uint8).reshape(-1, *self.shape[1:])

    def take(self, indices: Iterable[int]) -> list[Pixels]:
        """Return the images [S, S, 3] of these indices."""
        images = self.stored.take(indices if self.rows is None else _places(self.rows, list(indices)))
        if all(image.shape == self.shape[1:] for image in images):
            return images
        return list(thread_map.in_order(lambda image: to_square(image, self.contract), images))


def _places(rows: NDArray[np.int64], indices: list[int]) -> list[int]:
    if not np.isin(indices, rows).all():
        raise IndexError("only some of these images were loaded, and others are asked for")
    return [int(place) for place in np.searchsorted(rows, indices)]


Images = NDArray[np.uint8] | Squares
"""Images [N, S, S, 3] uint8: an array, or `Squares`, which are read like one."""


def stored_shapes(heights: NDArray[np.int64], widths: NDArray[np.int64], contract: ImageContract) -> NDArray[np.int64]:
    """Return height and width [N, 2] at which images of H x W pixels are stored: the smaller of H x W and S x S."""
    side = contract.stored_size
    own = np.stack([heights, widths], axis=1)
    return np.where((heights * widths < side * side)[:, np.newaxis], own, side)


def prepare(content: bytes, shape: tuple[int, int], contract: ImageContract) -> Pixels:
    """Return a file's image as it is stored: the square, or the image itself if its `shape` is another.

    There is no size limit, because files in a manifest have passed it. Raises DamagedImage for bytes that are not a
    usable image.
    """
    side = contract.stored_size
    if shape == (side, side):
        return square(content, contract, None)
    return decode(content, None, contract.sixteen_bit_max)
