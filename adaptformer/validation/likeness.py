"""Proposal of near duplicates: the pairs of pictures that look similar, out of N (N - 1) / 2.

A picture's signature is its brightness in 6 x 6 fields and its colour in 3 x 3 fields. It is so small that every
picture can be compared with every other one, and so coarse that JPEG, resizing or a stretch barely change it. To find
mirror images, crops and rotations, views of each picture after such changes are compared too. The signature is used
instead of a backbone's features because on CIFAR-10 its 54 numbers find more rotated and cropped copies.

Shapes: N pictures, s their side, V views.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from adaptformer.base import progress

LEAST = 0.85
"""The smallest cosine of two signatures of a proposed pair."""
NEAREST = 3
"""The largest number of proposed pairs of each picture: the most similar ones."""
_VIEWS = ((0.0, 1.0), (0.0, 0.87), (9.0, 0.95), (-9.0, 0.95))
"""Rotation in degrees and remaining share of the side. Each view exists as it is and mirrored."""
VIEWS = 2 * len(_VIEWS)
_ROWS, _COLUMNS = 1024, 2048  # size of a block of comparisons, small enough for the processor's cache
_BATCH = 4096
_COLOURS = torch.tensor([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]])
"""Brightness, blue difference and red difference from RGB, as in JPEG (ITU-T T.871)."""
_COLOUR_WEIGHT = 1.4


class Proposals(NamedTuple):
    """P pairs of pictures `first` < `second` [P], with the transform [P, 2, 3] that maps the first to the second.

    The transform is in the form of `affine_grid`: from a place in the result to a place in the first picture.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    transform: Tensor


def propose(pictures: NDArray[np.uint8]) -> Proposals:
    """Return the pairs of pictures [N, s, s, 3] that look similar."""
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    plain = signatures(images)
    transforms = view_transforms()
    views = (plain if view == 0 else signatures(images, transform) for view, transform in enumerate(transforms))
    pairs = compared(progress.steps(views, "comparing", VIEWS, "views"), plain)
    return proposals(pairs)


def proposals(pairs: pd.DataFrame) -> Proposals:
    """Return the proposals for pairs with the columns of `compared`."""
    transforms = view_transforms()
    # If the second picture was the viewed one, the inverse transform maps the first to the second.
    both = torch.stack([*transforms, *map(_inverted, transforms)])
    chosen = torch.tensor((pairs["view"] + VIEWS * pairs["changed"]).to_list(), dtype=torch.int64)
    first, second = (pairs[column].to_numpy(np.int64, copy=True) for column in ("first", "second"))
    return Proposals(first, second, both[chosen])


def compared(views: Iterable[Tensor], plain: Tensor) -> pd.DataFrame:
    """Return the pairs that are similar in one of the views: `first` < `second`, `view`, and `changed`.

    `views` are the signatures [N, 54] of each view, `plain` those of the pictures themselves. `changed` is 1 if the
    view is of the second picture, else 0.
    """
    tables = [
        # The comparisons with the plain view and with its mirror image are symmetric, the others are not.
        _alike(viewed, plain, symmetric=view in {0, len(_VIEWS)}).assign(view=view)
        for view, viewed in enumerate(views)
    ]
    return nearest(pd.concat(tables, ignore_index=True))


def signatures(images: Tensor, transform: Tensor | None = None) -> Tensor:
    """Return the unit-length signatures [N, 54] of images [N, 3, s, s] uint8, after `transform` [2, 3] if it is set."""
    found = []
    for batch in images.split(_BATCH):
        seen = batch.float() / 255
        if transform is not None:
            seen = transformed(seen, transform.expand(len(seen), 2, 3))
        planes = torch.einsum("kc,nchw->nkhw", _COLOURS, seen)
        light = F.adaptive_avg_pool2d(planes[:, :1], 6).flatten(2)
        colour = F.adaptive_avg_pool2d(planes[:, 1:], 3).flatten(2)
        parts = [(part - part.mean(2, keepdim=True)).flatten(1) for part in (light, _COLOUR_WEIGHT * colour)]
        found.append(F.normalize(torch.cat(parts, dim=1), dim=1))
    return torch.cat(found)


def transformed(images: Tensor, transform: Tensor) -> Tensor:
    """Return images [N, C, s, s] after transforms [N, 2, 3]; beyond their edges they are reflected."""
    grid = F.affine_grid(transform, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def view_transforms() -> list[Tensor]:
    """Return the transform [2, 3] of each view, the mirrored ones in the second half."""
    made = []
    for mirrored in (1.0, -1.0):
        for degrees, share in _VIEWS:
            cos, sin = (share * f(math.radians(degrees)) for f in (math.cos, math.sin))
            made.append(torch.tensor([[mirrored * cos, -mirrored * sin, 0.0], [sin, cos, 0.0]]))
    return made


def _inverted(transform: Tensor) -> Tensor:
    linear = torch.linalg.inv(transform[:, :2])
    return torch.cat([linear, -linear @ transform[:, 2:]], dim=1)


def _alike(viewed: Tensor, plain: Tensor, *, symmetric: bool) -> pd.DataFrame:
    """Return for each view (row) the NEAREST pictures (column) whose cosine with it is at least LEAST."""
    tables = []
    memory = torch.empty(_ROWS * _COLUMNS)  # reused, because allocating it for each block takes half of the time
    for start in range(0, len(viewed), _ROWS):
        found = []
        for column in range(start if symmetric else 0, len(plain), _COLUMNS):
            views, others = viewed[start : start + _ROWS], plain[column : column + _COLUMNS]
            cosines = memory[: len(views) * len(others)].view(len(views), len(others))
            torch.mm(views, others.T, out=cosines)
            rows, columns = (cosines >= LEAST).nonzero(as_tuple=True)
            found.append(np.stack([rows + start, columns + column, cosines[rows, columns]]))
        table = pd.DataFrame(np.concatenate(found, axis=1).T, columns=["row", "column", "cosine"])
        tables.append(_first_of_each(table[table["row"] != table["column"]], "row"))
    return pd.concat(tables, ignore_index=True)


def nearest(found: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs `first` < `second`, in their best view, that are among the NEAREST of one of their pictures.

    `found` has the viewed picture (`row`), the one that it was compared with (`column`), `view` and `cosine`. The
    result has the columns of `compared` besides.
    """
    pairs = found[["row", "column"]].astype("int64")
    found = found.assign(
        first=pairs.min(axis=1), second=pairs.max(axis=1), changed=(pairs["row"] > pairs["column"]).astype("int64")
    )
    ordered = found.sort_values(["cosine", "first", "second"], ascending=[False, True, True], kind="stable")
    best = ordered.drop_duplicates(["first", "second"])
    nearest = _first_of_each(best, "first").index.union(_first_of_each(best, "second").index)
    return best.loc[nearest].sort_values(["first", "second"])


def _first_of_each(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the rows with the largest cosines for each value of a column."""
    ordered = table.sort_values("cosine", ascending=False, kind="stable")
    return ordered[ordered.groupby(column).cumcount() < NEAREST]
