"""Signatures by which similar pictures are found, and the pairs of pictures whose signatures are nearest.

A picture's signature is its brightness in 6 x 6 fields and its colour in 3 x 3 fields. It is so small that very many
pictures can be compared, and so coarse that JPEG, resizing or a stretch barely change it. To find mirror images, crops
and rotations, views of each picture after such changes are compared too. The signature is used instead of a backbone's
features because on CIFAR-10 its 54 numbers find more rotated and cropped copies.

Shapes: N pictures, s their side, V views.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

LEAST = 0.85
"""The smallest cosine of two signatures of a proposed pair."""
NEAREST = 3
"""The largest number of proposed pairs of each picture: the most similar ones."""
_VIEWS = ((0.0, 1.0), (0.0, 0.87), (9.0, 0.95), (-9.0, 0.95))
"""Rotation in degrees and remaining share of the side. Each view exists as it is and mirrored."""
VIEWS = 2 * len(_VIEWS)
SIZE = 54
"""Numbers in a signature."""
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


def proposals(pairs: pd.DataFrame) -> Proposals:
    """Return the proposals for pairs with the columns of `nearest`."""
    transforms = view_transforms()
    # If the second picture was the viewed one, the inverse transform maps the first to the second.
    both = torch.stack([*transforms, *map(_inverted, transforms)])
    view = torch.tensor((pairs["view"] + VIEWS * pairs["changed"]).to_list(), dtype=torch.int64)
    first, second = (pairs[column].to_numpy(np.int64, copy=True) for column in ("first", "second"))
    return Proposals(first, second, both[view])


def signatures(images: Tensor, transform: Tensor | None = None) -> Tensor:
    """Return the unit-length signatures [N, 54] of images [N, 3, s, s] uint8, after `transform` [2, 3] if it is set."""
    batches = []
    for batch in images.split(_BATCH):
        seen = batch.float() / 255
        if transform is not None:
            seen = transformed(seen, transform.expand(len(seen), 2, 3))
        planes = torch.einsum("kc,nchw->nkhw", _COLOURS, seen)
        light = F.adaptive_avg_pool2d(planes[:, :1], 6).flatten(2)
        colour = F.adaptive_avg_pool2d(planes[:, 1:], 3).flatten(2)
        parts = [(part - part.mean(2, keepdim=True)).flatten(1) for part in (light, _COLOUR_WEIGHT * colour)]
        batches.append(F.normalize(torch.cat(parts, dim=1), dim=1))
    return torch.cat(batches)


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


def nearest(comparisons: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs `first` < `second`, in their best view, that are among the NEAREST of one of their pictures.

    `comparisons` has the viewed picture (`row`), the one that it was compared with (`column`), `view` and `cosine`. The
    result also has `changed`: 1 if the view is of the second picture, else 0.
    """
    row, column = (comparisons[name].to_numpy(np.int64) for name in ("row", "column"))
    both = comparisons.assign(
        first=np.minimum(row, column), second=np.maximum(row, column), changed=(row > column).astype(np.int64)
    )
    ordered = both.sort_values(["cosine", "first", "second"], ascending=[False, True, True], kind="stable")
    best = ordered.drop_duplicates(["first", "second"])
    # Both selections keep the order of `best`, which has the largest cosines first.
    kept = (best.groupby(name).cumcount() < NEAREST for name in ("first", "second"))
    return best[next(kept) | next(kept)].sort_values(["first", "second"])
