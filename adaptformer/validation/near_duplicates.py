"""Near duplicates: the same photo again, compressed, resized, cropped, turned by some degrees, stretched or mirrored.

Pictures that look alike at a glance are proposed (likeness.py), and those that can be laid over each other down to
their details are confirmed (alignment.py). Both work on the small picture of each image that data/reading.py makes.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from adaptformer import memory


class Pictures:
    """The small pictures of images, gathered while their files are read: call it with a path and its picture."""

    def __init__(self) -> None:
        self._by_path: dict[str, NDArray[np.uint8]] = {}

    def __call__(self, path: str, picture: NDArray[np.uint8]) -> None:
        """Keep the small picture [s, s, 3] of an image."""
        self._by_path[path] = picture

    def of(self, paths: Iterable[str]) -> NDArray[np.uint8]:
        """Return the pictures [N, s, s, 3] of these paths."""
        return np.stack([self._by_path[path] for path in paths])


def pairs(pictures: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the pairs [P, 2] of near duplicates among pictures [N, s, s, 3], each in order, sorted."""
    from adaptformer.validation import alignment, likeness  # with torch, which a data set of two images can do without

    memory.keep_freed()
    proposed = likeness.propose(pictures)
    same = alignment.confirmed(pictures, proposed)
    return np.stack([proposed.first[same], proposed.second[same]], axis=1)
