"""Near duplicates: the same photo again, compressed, resized, cropped, turned by some degrees, stretched or mirrored.

Pictures that look alike at a glance are proposed (likeness.py), and those that can be laid over each other down to
their details are confirmed (alignment.py). Both work on small pictures of each image, made when it is read.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from adaptformer.data.decoding import Pixels

SIDE = 32
"""Of the small pictures, in pixels."""


class Pictures:
    """The small pictures of images, gathered while their files are read: call it with a path and its image."""

    def __init__(self) -> None:
        self._by_path: dict[str, NDArray[np.uint8]] = {}

    def __call__(self, path: str, image: Pixels) -> None:
        """Keep the small picture of an image."""
        self._by_path[path] = picture(image)

    def of(self, paths: Iterable[str]) -> NDArray[np.uint8]:
        """Return the pictures [N, s, s, 3] of these paths."""
        return np.stack([self._by_path[path] for path in paths])


def picture(image: Pixels) -> NDArray[np.uint8]:
    """Return the small picture [s, s, 3] of an image [h, w, 3], squashed to a square: shapes may differ."""
    return np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=None))


def pairs(pictures: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the pairs [P, 2] of near duplicates among pictures [N, s, s, 3], each in order, sorted."""
    from adaptformer.validation import alignment, likeness  # with torch, which a data set of two images can do without

    proposed = likeness.propose(pictures)
    same = alignment.confirmed(pictures, proposed)
    return np.stack([proposed.first[same], proposed.second[same]], axis=1)
