"""The comparison of new images with the data that a model learned from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adaptformer.evaluation import data_profile
from adaptformer.gate.decision import Check
from adaptformer.monitoring import permutation_drift
from adaptformer.monitoring.new_images import Features, NewImages


@dataclass(frozen=True)
class Likeness:
    """The comparison of new images [N] with the model's data.

    Of the `compared` images, those in the mask `unlike` [N] are far from all of the model's data. For those in the
    mask `judged` [N], confidence can be used to estimate the accuracy.
    """

    checks: tuple[Check, ...]
    unlike: NDArray[np.bool_]
    judged: NDArray[np.bool_]
    compared: int = 0


def compare(profile: Path | None, images: NewImages, features: Features) -> Likeness:
    """Compare new images with the profile of the model's data.

    If they differ, the images of the new profile are compared one by one. Those that are not unlike are judged, if
    together they are like the model's data.
    """
    nobody = np.zeros(len(images.table), bool)
    if profile is None:
        return Likeness((), nobody, ~nobody)
    known = data_profile.read(profile)
    new = data_profile.profile(images.table, images.folder, features.embedding, features.storage.images)
    checks = tuple(permutation_drift.compare(new, known))
    if all(check.verdict != "warn" for check in checks):
        return Likeness(checks, nobody, ~nobody)
    if checks[-1].verdict == "info":  # the features cannot be compared
        return Likeness(checks, nobody, nobody)
    rows = images.table.index.get_indexer(data_profile.sampled_rows(images.table))
    far = permutation_drift.unlike(new.embeddings, known.embeddings)
    unlike, alike = nobody.copy(), nobody.copy()
    unlike[rows] = far
    if permutation_drift.alike(new.embeddings[~far], known.embeddings):
        alike[rows] = ~far
    return Likeness(checks, unlike, alike, len(rows))
