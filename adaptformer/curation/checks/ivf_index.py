"""Index of pictures by cells of similar signatures, to find candidates for near duplicates among very many.

The signatures are clustered into cells of about CELL similar ones (k-means), as in an inverted file index. Each view of
a picture is compared only with the signatures in the PROBES cells nearest to it. Up to CELL * PROBES pictures, every
pair is compared; beyond that a pair may be missed, and the time grows linearly, not quadratically.

Shapes: M pictures, s their side, V views, K cells, B pictures of a block, P pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor

from adaptformer.curation.checks import duplicate_candidates
from adaptformer.curation.checks.duplicate_candidates import LEAST, NEAREST, SIZE

CELL, PROBES = 2000, 16
BLOCK = 16_384
"""Pictures whose candidates are searched in one go."""
_LEARN = 50
"""Signatures per cell that the cells are fitted to."""
_AT_ONCE = (1024, 2048)  # views and pictures, few enough for the processor's cache
_COLUMNS = ("row", "column", "view", "cosine")


class Rows(Protocol):
    """Rows of equal size, in memory or in a file."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: slice | NDArray[np.int64], /) -> NDArray[Any]: ...


@dataclass(frozen=True)
class Index:
    """The pictures, and their signatures sorted by cell, with the number of the picture of each (`members` [M]).

    The signatures of cell k are at `starts[k]` to `starts[k + 1]`, with `members` ascending within a cell; `centres`
    [K, 54] are the centres of the cells.
    """

    pictures: Rows
    signatures: Rows
    members: NDArray[np.int64]
    starts: NDArray[np.int64]
    centres: NDArray[np.float32]

    def blocks(self) -> range:
        """Return the number of the first picture of each block."""
        return range(0, len(self.members), BLOCK)


def build(pictures: NDArray[np.uint8]) -> Index:
    """Return the index of pictures [M, s, s, 3] in memory."""
    signatures = signatures_of(pictures)
    members, starts, centres = sorted_by_cell(signatures)
    return Index(pictures, signatures[members], members, starts, centres)


def signatures_of(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the signatures [B, 54] of pictures [B, s, s, 3]."""
    signatures: NDArray[np.float32] = duplicate_candidates.signatures(_images(pictures)).numpy()
    return signatures


def sorted_by_cell(signatures: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return `members`, `starts` and `centres` of the index of pictures with these signatures [M, 54]."""
    centres = _centres(signatures)
    parts = (torch.from_numpy(signatures[start : start + BLOCK]) for start in range(0, len(signatures), BLOCK))
    cells = np.concatenate([np.zeros(0, np.int64), *(_nearest(part, centres, 1)[:, 0].numpy() for part in parts)])
    members = np.argsort(cells, kind="stable")
    return members, np.searchsorted(cells[members], np.arange(len(centres) + 1)), centres.numpy()


def _images(pictures: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2)


def _centres(signatures: Rows) -> Tensor:
    count = max(1, round(len(signatures) / CELL))
    if count <= PROBES:  # every cell would be searched anyway
        return torch.zeros(1, SIZE)
    sample = np.unique(np.linspace(0, len(signatures) - 1, min(len(signatures), _LEARN * count)).astype(np.int64))
    fitted = MiniBatchKMeans(count, random_state=0, n_init=1, batch_size=8192).fit(signatures[sample])
    return torch.from_numpy(fitted.cluster_centers_.astype(np.float32))


def _nearest(signatures: Tensor, centres: Tensor, count: int) -> Tensor:
    """Return the numbers [N, count] of the cells nearest to each signature [N, 54]."""
    half = centres.square().sum(1) / 2
    near = [(part @ centres.T - half).topk(min(count, len(centres)), dim=1).indices for part in signatures.split(4096)]
    return torch.cat(near)


def candidates(index: Index, start: int) -> pd.DataFrame:
    """Return for each picture of the block from `start` on the NEAREST pictures before and after it, by its best views.

    The columns are those that `duplicate_candidates.nearest` takes.
    """
    images = _images(index.pictures[start : start + BLOCK])
    transforms = duplicate_candidates.view_transforms()
    viewed = torch.cat([duplicate_candidates.signatures(images, transform) for transform in transforms])
    near = _nearest(viewed, torch.from_numpy(index.centres), PROBES)
    query = torch.arange(len(viewed)).repeat_interleave(near.shape[1])
    by_cell = near.flatten().argsort(stable=True)
    bounds = torch.searchsorted(near.flatten()[by_cell], torch.arange(len(index.centres) + 1))
    memory = torch.empty(_AT_ONCE[0] * _AT_ONCE[1])  # reused, because allocating it each time takes half of the time
    similar: list[Tensor] = []
    for cell, (low, high) in enumerate(zip(index.starts, index.starts[1:], strict=False)):
        asking = query[by_cell[bounds[cell] : bounds[cell + 1]]]
        for column in range(int(low), int(high), _AT_ONCE[1]):
            stop = min(column + _AT_ONCE[1], int(high))
            others = torch.from_numpy(index.signatures[column:stop])
            members = torch.from_numpy(index.members[column:stop])
            for rows in asking.split(_AT_ONCE[0]):
                cosines = memory[: len(rows) * len(others)].view(len(rows), len(others))
                torch.mm(viewed[rows], others.T, out=cosines)
                some = cosines.amax(dim=1) >= LEAST
                if some.any():
                    own, view = start + rows[some] % len(images), rows[some] // len(images)
                    similar.extend(_best(cosines[some], own, view, members))
    columns = torch.cat(similar, dim=1).numpy() if similar else np.zeros((len(_COLUMNS), 0))
    table = pd.DataFrame(dict(zip(_COLUMNS, columns, strict=True))).astype(dict.fromkeys(_COLUMNS[:3], "int64"))
    ordered = table.sort_values(["cosine", *_COLUMNS[:3]], ascending=[False, True, True, True], ignore_index=True)
    best_views = ordered.drop_duplicates(["row", "column"])
    after = best_views["column"] > best_views["row"]
    return best_views[best_views.groupby(["row", after]).cumcount() < NEAREST].sort_values(["row", "column"])


def _best(cosines: Tensor, own: Tensor, view: Tensor, members: Tensor) -> Iterator[Tensor]:
    """Yield the columns row, column, view, cosine [4, P] of the NEAREST `members` [N] before and after each `own` [R].

    `own` and `members` are numbers of pictures; `cosines` [R, N] are those between the `view` [R] of `own` and the
    members.
    """
    for side in (members < own[:, None], members > own[:, None]):
        best = cosines.masked_fill(~side, -1.0).topk(min(NEAREST, len(members)), dim=1)
        kept = best.values >= LEAST
        columns = (own[:, None].expand_as(kept), members[best.indices], view[:, None].expand_as(kept), best.values)
        yield torch.stack([column[kept].double() for column in columns])
