"""Permutation tests of drift: whether new images differ from a model's data by more than chance.

The distances are those of the gate (gate/drift.py). A fixed bound cannot tell chance from drift: a few images are far
from any data set, and many images are near even if half of them are foreign. So the bound is the distance that chance
explains for the same number of images.

Shapes: N new images, M known ones, D columns, P permutations.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from adaptformer.base import randomness
from adaptformer.evaluation.data_profile import Profile
from adaptformer.gate import drift
from adaptformer.gate.decision import Check

FEWEST = 20
"""With fewer new images there is no verdict: by chance alone they are far from any data set."""
MOST = 500
"""Largest number of images per side in a test; more images would reveal differences of no importance."""
FALSE_ALARMS = 0.05
"""Share of batches similar to the known images that are called different by at least one measure."""
PERMUTATIONS = 999
_USUAL = 0.99
"""A new image is unlike the known ones if it is farther from them than this share of them is from their nearest."""


def compare(new: Profile, known: Profile) -> list[Check]:
    """Return one check each for sizes, colours and content: "warn" if chance does not explain the distance, or "pass".

    The verdict is "info" if the sides cannot be compared, or if there are fewer than FEWEST new images.
    """
    measures = drift.measures(new, known)
    return [_check(measure, FALSE_ALARMS / len(measures)) for measure in measures]


def alike(new: NDArray[np.floating], known: NDArray[np.floating]) -> bool:
    """Return whether chance explains the distance of new features [N, D] from known ones [M, D]."""
    if len(new) < FEWEST:
        return False
    distance, bound = _distance_and_bound(new.astype(np.float64), known.astype(np.float64), FALSE_ALARMS)
    return distance <= bound


def unlike(new: NDArray[np.floating], known: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Return a mask [N] of new features [N, D] that are far from all known ones [M, D].

    Far means a larger distance than 99 % of the known features have to their nearest neighbour.
    """
    ours, theirs = _scaled(new.astype(np.float64), known.astype(np.float64))
    among = cdist(theirs, theirs)
    np.fill_diagonal(among, np.inf)
    usual = np.quantile(among.min(axis=1), _USUAL) if len(theirs) > 1 else np.inf
    mask: NDArray[np.bool_] = cdist(ours, theirs).min(axis=1) > usual
    return mask


def _check(measure: drift.Measure, level: float) -> Check:
    name = f"drift of {measure.name}"
    if measure.obstacle:
        return Check(name, "info", "not compared", "", f"Not compared, since {measure.obstacle}.")
    if len(measure.ours) < FEWEST:
        reason = f"{len(measure.ours)} images are too few to tell drift from chance"
        return Check(name, "info", "not compared", f"from {FEWEST} images on", reason)
    distance, bound = _distance_and_bound(measure.ours.astype(np.float64), measure.theirs.astype(np.float64), level)
    if distance > bound:
        return Check(name, "warn", f"{distance:.3f}", f"chance gives {bound:.3f}", f"They differ in {measure.name}.")
    return Check(name, "pass", f"{distance:.3f}", f"chance gives {bound:.3f}", f"They are alike in {measure.name}.")


def _distance_and_bound(ours: NDArray[np.float64], theirs: NDArray[np.float64], level: float) -> tuple[float, float]:
    """Return the energy coefficient of two samples, and the bound that chance exceeds with probability `level` at most.

    This is a permutation test: without drift, the images of both sides are exchangeable. The bound is the k-th largest
    coefficient of P = PERMUTATIONS random divisions, k = `level` (P + 1) (Hemerik & Goeman, TEST 27, 2018).
    """
    ours, theirs = _sampled(ours, "new"), _sampled(theirs, "known")
    ours, theirs = _scaled(ours, theirs)
    both = np.concatenate([ours, theirs])
    distances = cdist(both, both)
    sides = np.zeros((PERMUTATIONS + 1, len(both)))
    sides[0, : len(ours)] = 1
    for number in range(PERMUTATIONS):
        order = randomness.permutation(len(both), "drift", len(ours), len(theirs), number)
        sides[number + 1, order[: len(ours)]] = 1
    coefficients = coefficients_of(distances, sides)
    largest = np.sort(coefficients[1:])[::-1]
    return float(coefficients[0]), float(largest[max(int(level * (PERMUTATIONS + 1)), 1) - 1])


def coefficients_of(distances: NDArray[np.float64], sides: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the energy coefficient [P] of each division of all images; `sides` [P, N + M] is 1 for one side."""
    others = 1 - sides
    ours, theirs = sides.sum(axis=1), others.sum(axis=1)
    to_ours, to_theirs = sides @ distances, others @ distances
    across = (to_theirs * sides).sum(axis=1) / (ours * theirs)
    within = (to_ours * sides).sum(axis=1) / (ours * np.maximum(ours - 1, 1))
    within += (to_theirs * others).sum(axis=1) / (theirs * np.maximum(theirs - 1, 1))
    return np.where(across > 0, np.maximum(1 - within / (2 * np.where(across > 0, across, 1)), 0), 0)


def _sampled(rows: NDArray[np.float64], side: str) -> NDArray[np.float64]:
    """Return at most MOST rows, chosen at random with a fixed seed."""
    if len(rows) <= MOST:
        return rows
    return rows[np.sort(randomness.permutation(len(rows), f"drift sample of {side} images")[:MOST])]


def _scaled(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both samples with each column divided by its standard deviation over both together."""
    scale = np.concatenate([ours, theirs]).std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    return ours / scale, theirs / scale
