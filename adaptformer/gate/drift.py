"""How far a challenger's data lie from the champion's: sizes, colours, and what the plain backbone sees in them.

Shapes: N images, M of the other set, W columns.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from adaptformer.evaluation.data_profile import Profile
from adaptformer.gate.decision import Check

_DIFFERENCES = 1 << 22
"""Numbers held in memory at once while distances are taken."""


def compare(challenger: Profile, champion: Profile, bound: float) -> list[Check]:
    """Return one check each of sizes, channel statistics and embeddings: "warn" above `bound`, else "pass".

    What was computed in another way on both sides cannot be compared: "info".
    """
    pixels = (
        "" if challenger.image == champion.image else "the models see images by another size, crop or normalisation"
    )
    backbone = pixels or ("" if challenger.backbone == champion.backbone else "the models have different backbones")
    return [
        _check("image sizes", challenger.sizes, champion.sizes, bound),
        _check("colours", challenger.channels, champion.channels, bound, pixels),
        _check("content (embeddings)", challenger.embeddings, champion.embeddings, bound, backbone),
    ]


def _check(
    what: str,
    challenger: NDArray[np.generic],
    champion: NDArray[np.generic],
    bound: float,
    obstacle: str = "",
) -> Check:
    name, limit = f"drift of {what}", f"at most {bound:g}"
    if obstacle:
        return Check(name, "info", "not compared", limit, f"Not compared, since {obstacle}.")
    found = energy_coefficient(challenger.astype(np.float64), champion.astype(np.float64))
    if found > bound:
        reason = f"The challenger's data differ from the champion's in {what}, so old results may not hold for them."
        return Check(name, "warn", f"{found:.3f}", limit, reason)
    return Check(name, "pass", f"{found:.3f}", limit, f"Both models' data are alike in {what}.")


def energy_coefficient(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
    """Return how far two samples [N, W] and [M, W] lie apart: 0 for the same distribution, 1 at the farthest.

    (2 E|X−Y| − E|X−X'| − E|Y−Y'|) / 2 E|X−Y|, of columns in units of `theirs`' standard deviation. The means are
    over distinct pairs, without bias, and the result is cut at 0. Székely & Rizzo, J. Stat. Plan. Inference 143 (2013).
    """
    centre, scale = theirs.mean(axis=0), theirs.std(axis=0)
    # A column without variation on one side still tells: then in units of all.
    scale = np.where(scale > 0, scale, np.concatenate([ours, theirs]).std(axis=0))
    scale = np.where(scale > 0, scale, 1.0)
    ours, theirs = (ours - centre) / scale, (theirs - centre) / scale
    across = _total_distance(ours, theirs) / (len(ours) * len(theirs))
    if across == 0:
        return 0.0
    within = sum(_total_distance(side, side) / max(len(side) * (len(side) - 1), 1) for side in (ours, theirs))
    return min(max(1 - within / (2 * across), 0.0), 1.0)


def _total_distance(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
    """Return the sum of the Euclidean distances of all pairs of rows.

    By plain differences: the faster |x|² + |y|² − 2xy is inexact where rows are nearly equal.
    """
    at_once = max(1, _DIFFERENCES // theirs.size)
    total = 0.0
    for start in range(0, len(ours), at_once):
        differences = ours[start : start + at_once, None] - theirs[None]
        total += float(np.sqrt(np.einsum("nmw,nmw->nm", differences, differences)).sum())
    return total
