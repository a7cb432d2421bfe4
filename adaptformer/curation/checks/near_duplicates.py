"""Near duplicates: copies of a photo, compressed, resized, cropped, stretched, mirrored or rotated by a few degrees.

Candidates are pairs of pictures that look similar (ivf_index.py). Those whose details agree when they are aligned are
confirmed (duplicate_verification.py). Both use the small picture of each image (data/image_facts.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adaptformer.base import memory, progress

if TYPE_CHECKING:
    from adaptformer.curation.checks.ivf_index import Index

PAIRS = 8000
"""Pairs that are aligned in one go."""

Step = Callable[[], pd.DataFrame]


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
    """Return the pairs [P, 2] of near duplicates among pictures [N, s, s, 3] in memory, each in order, sorted."""
    from adaptformer.curation.checks import ivf_index  # imports torch, which is not needed without pictures

    return search(ivf_index.build(pictures), lambda _name, step: step())


def search(index: Index, result_of: Callable[[str, Step], pd.DataFrame]) -> NDArray[np.int64]:
    """Return the pairs [P, 2] of near duplicates among the pictures of an index, each in order, sorted.

    Each step of the search is called through `result_of(name, step)`, which may keep the step's result.
    """
    from adaptformer.curation.checks import duplicate_candidates, duplicate_verification, ivf_index

    memory.keep_freed()
    starts = index.blocks()
    tables = [
        result_of(f"proposed/{start:010d}", partial(ivf_index.candidates, index, start))
        for start in progress.logged(starts, "comparing", len(starts), "blocks")
    ]
    if not tables:
        return np.zeros((0, 2), np.int64)
    candidates = duplicate_candidates.nearest(pd.concat(tables, ignore_index=True))
    starts = range(0, max(len(candidates), 1), PAIRS)
    tables = [
        result_of(f"confirmed/{start:010d}", partial(_aligned, index, candidates[start : start + PAIRS]))
        for start in progress.logged(starts, "aligning", len(starts), "blocks")
    ]
    aligned = pd.concat(tables, ignore_index=True)
    # The agreement that details must have is estimated from all pairs.
    bound = duplicate_verification.bound(aligned["agreement"].to_numpy())
    same = (aligned["fits"] & (aligned["agreement"] >= bound)).to_numpy()
    return candidates.loc[same, ["first", "second"]].to_numpy(np.int64)


def _aligned(index: Index, candidates: pd.DataFrame) -> pd.DataFrame:
    """Return `agreement` and `fits` of each candidate pair (duplicate_verification.agreements)."""
    from adaptformer.curation.checks import duplicate_candidates, duplicate_verification

    involved = np.unique(candidates[["first", "second"]].to_numpy())
    within = {name: np.searchsorted(involved, candidates[name]) for name in ("first", "second")}
    proposed = duplicate_candidates.proposals(candidates.assign(**within))
    agreement, fits = duplicate_verification.agreements(index.pictures[involved], proposed)
    return pd.DataFrame({"agreement": agreement, "fits": fits})
