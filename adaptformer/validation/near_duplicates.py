"""Near duplicates: copies of a photo, compressed, resized, cropped, stretched, mirrored or rotated by a few degrees.

Pairs of pictures that look similar are proposed (likeness.py). Those whose details agree when they are aligned are
confirmed (alignment.py). Both use the small picture of each image (data/reading.py).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from adaptformer.base import memory


class Pictures:
    """The small pictures of images, collected while their files are read; call it with a path and its picture."""

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
    from adaptformer.validation import alignment, likeness  # imports torch, which is not needed without pictures

    memory.keep_freed()
    proposed = likeness.propose(pictures)
    same = alignment.confirmed(pictures, proposed)
    return np.stack([proposed.first[same], proposed.second[same]], axis=1)
