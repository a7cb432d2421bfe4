"""Confirmation of near duplicates: two pictures are aligned, and their details must agree.

An affine transform is fitted so that the brightness of one picture matches the other's (Gauss-Newton steps as in Lucas
and Kanade, IJCAI 1981, with free brightness and contrast), first on coarse pictures, then on fine ones. Smooth pictures
of different things can be aligned almost perfectly, so the decision uses the correlation of their details, without the
smooth part.

Shapes: P pairs, s side of the pictures.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from adaptformer.curation.checks.duplicate_candidates import Proposals

WHOLE, DETAIL = 0.9, 0.6
"""The smallest correlations of near duplicates: of the aligned pictures, and of their details alone."""
COPY = 0.97
"""The correlation of details that is enough in any set, however similar its pictures are."""
OVERLAP = 0.55
"""The share of the second picture that the first must cover."""
STRETCH = (0.6, 1.5)
"""The smallest and largest factor by which a picture may have been stretched in any direction."""
_COARSE_STEPS, _FINE_STEPS = 12, 8
_SPREADS, _FEWEST = 6.0, 50  # spreads above the lower agreements (`bound`); fewest pairs to estimate chance from
_LIMIT = 0.2  # largest change of each number of a transform in one step
_AT_ONCE = 1000


def agreements(pictures: NDArray[np.uint8], proposed: Proposals) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return how well the details of each proposed pair agree [P], and whether the whole pictures fit [P].

    The agreement is a correlation; it is NaN for two pictures that cannot be aligned even coarsely.
    """
    if not len(proposed.first):
        return np.zeros(0, np.float32), np.zeros(0, bool)
    grey = torch.from_numpy(np.asarray(pictures @ np.array([0.299, 0.587, 0.114], np.float32) / 255))[:, None]
    parts = [torch.from_numpy(part).split(_AT_ONCE) for part in (proposed.first, proposed.second)]
    batches = list(zip(*parts, proposed.transform.split(_AT_ONCE), strict=True))
    aligned = [_laid_over(grey[first], grey[second], start) for first, second, start in batches]
    agreement, fits = (torch.cat(part).numpy() for part in zip(*aligned, strict=True))
    return agreement, fits


def bound(agreement: NDArray[np.float32]) -> float:
    """Return the smallest agreement of details that near duplicates must have in this set of pictures.

    It must exceed the agreement of different pictures that look similar. Different handwritten digits agree almost as
    well as copies do; different photos do not. The agreement by chance is estimated from the quarter of the pairs that
    agree least, because the others may be copies.
    """
    chance = agreement[~np.isnan(agreement)]
    if len(chance) < _FEWEST:
        return DETAIL
    low, middle = np.quantile(chance, [0.1, 0.25])
    return float(np.clip(middle + _SPREADS * (middle - low), DETAIL, COPY))


def _laid_over(first: Tensor, second: Tensor, transform: Tensor) -> tuple[Tensor, Tensor]:
    """Align grey pictures [P, 1, s, s], starting from the rough transforms [P, 2, 3].

    Returns the correlation [P] of their details, NaN for pairs that cannot be aligned even coarsely, and whether the
    whole pictures fit [P].
    """
    one, other = (F.avg_pool2d(_blurred(picture, 1.0), 2) for picture in (first, second))
    fitted = _fitted(one, other, transform, _COARSE_STEPS)
    close = _correlation(one, other, fitted) >= WHOLE - 0.05
    agreement, fits = torch.full((len(first),), torch.nan), torch.zeros(len(first), dtype=torch.bool)
    if close.any():
        first, second = first[close], second[close]
        fine = _fitted(_blurred(first, 0.8), _blurred(second, 0.8), fitted[close], _FINE_STEPS)
        stretch = torch.linalg.svdvals(fine[:, :, :2])
        whole = _correlation(_blurred(first, 0.7), _blurred(second, 0.7), fine)
        fits[close] = (
            (whole >= WHOLE) & (_inside(_grid(fine, first.shape[-1])).mean((1, 2)) >= OVERLAP)
            & (stretch[:, 0] <= STRETCH[1]) & (stretch[:, 1] >= STRETCH[0])
        )  # fmt: skip
        agreement[close] = _correlation(_details(first), _details(second), fine)
    return agreement, fits


def _fitted(first: Tensor, second: Tensor, transform: Tensor, steps: int) -> Tensor:
    """Return the transforms [P, 2, 3] of the first pictures after `steps` steps towards the second ones."""
    side = first.shape[-1]
    centres = torch.linspace(1 / side - 1, 1 - 1 / side, side)
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    slope_x = F.pad((first[..., 2:] - first[..., :-2]) * side / 4, (1, 1, 0, 0))
    slope_y = F.pad((first[..., 2:, :] - first[..., :-2, :]) * side / 4, (0, 0, 1, 1))
    source = torch.cat([first, slope_x, slope_y], dim=1)
    damping = torch.eye(6)
    for _ in range(steps):
        grid = _grid(transform, side)
        seen, inside = _seen(source, grid), _inside(grid)
        difference = (_centred(second[:, 0], inside, seen[:, 0]) + _mean(seen[:, 0], inside) - seen[:, 0]) * inside
        dx, dy = seen[:, 1] * inside, seen[:, 2] * inside
        slopes = torch.stack([dx * x, dx * y, dx, dy * x, dy * y, dy], dim=1).flatten(2)
        hessian = slopes @ slopes.transpose(1, 2)
        size = hessian.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
        step = torch.linalg.solve(hessian + (1e-3 * size + 1e-6) * damping, slopes @ difference.flatten(1)[:, :, None])
        transform = transform + step[:, :, 0].clamp(-_LIMIT, _LIMIT).view(-1, 2, 3)
    return transform


def _centred(picture: Tensor, inside: Tensor, like: Tensor) -> Tensor:
    """Return pictures [P, s, s] minus their mean, scaled to the contrast of `like`; both are measured in `inside`."""
    deviations = []
    for each in (like, picture):
        centred = (each - _mean(each, inside)) * inside
        deviations.append((centred.square().sum((1, 2), keepdim=True) / _count(inside)).sqrt() + 1e-4)
    return (picture - _mean(picture, inside)) * deviations[0] / deviations[1]


def _correlation(first: Tensor, second: Tensor, transform: Tensor) -> Tensor:
    """Return the correlation [P] of pictures [P, 1, s, s] in the area where they overlap."""
    grid = _grid(transform, first.shape[-1])
    inside = _inside(grid)
    pair = (_seen(first, grid)[:, 0], second[:, 0])
    one, other = ((picture - _mean(picture, inside)) * inside for picture in pair)
    size = (one.square().sum((1, 2)) * other.square().sum((1, 2))).sqrt()
    return (one * other).sum((1, 2)) / size.clamp(min=1e-5)  # the correlation of two constant pictures is 0


def _grid(transform: Tensor, side: int) -> Tensor:
    """Return the places [P, s, s, 2] to which a transform maps those of the picture."""
    return F.affine_grid(transform, [len(transform), 1, side, side], align_corners=False)


def _seen(source: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(source, grid, padding_mode="border", align_corners=False)


def _inside(grid: Tensor) -> Tensor:
    """Return a mask [P, s, s]: 1 in the places that are mapped into the picture, else 0."""
    return (grid.abs() < 1).all(dim=-1).float()


def _mean(picture: Tensor, inside: Tensor) -> Tensor:
    return (picture * inside).sum((1, 2), keepdim=True) / _count(inside)


def _count(inside: Tensor) -> Tensor:
    return inside.sum((1, 2), keepdim=True).clamp(min=1)


def _details(picture: Tensor) -> Tensor:
    return _blurred(picture, 0.7) - _blurred(picture, 2.0)


def _blurred(picture: Tensor, sigma: float) -> Tensor:
    """Return pictures [P, 1, s, s] blurred with a Gaussian of `sigma` pixels."""
    places = torch.arange(-3.0, 4.0)
    kernel = torch.exp(-(places**2) / (2 * sigma**2))
    kernel /= kernel.sum()
    across = F.conv2d(F.pad(picture, (3, 3, 0, 0), mode="replicate"), kernel.view(1, 1, 1, 7))
    return F.conv2d(F.pad(across, (0, 0, 3, 3), mode="replicate"), kernel.view(1, 1, 7, 1))
