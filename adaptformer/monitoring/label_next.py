"""The choice of images to label next: those with unsure answers, and no two of the same kind.

Shapes: N images, C classes, K images to choose, D width of the backbone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.preprocessing import StandardScaler

from adaptformer.base import csv_file

_SHARE = 5
"""The candidates are this many times K images; the model is too sure of the rest."""


def margins(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the largest minus the second largest probability of each row [N, C]; small if the model is unsure."""
    best = -np.sort(-probabilities, axis=1)[:, :2]
    margin: NDArray[np.float64] = best[:, 0] - best[:, -1] if best.shape[1] > 1 else best[:, 0]
    return margin


def choose(
    margin: NDArray[np.float64],
    count: int,
    features: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    unlike: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """Return the indices [at most K] of the images to label, least sure first.

    The images with the smallest margins [N] are clustered by their features into K clusters, and the least sure image
    of each cluster is chosen. `features` returns the features [n, D] of the given images. Images that are `unlike` [N]
    all training data are chosen separately: they get half of the places, if there are enough images of both kinds.
    """
    if unlike.any():
        for_unlike = min(int(unlike.sum()), max(count - int((~unlike).sum()), count // 2))
        parts = [(np.flatnonzero(~unlike), count - for_unlike), (np.flatnonzero(unlike), for_unlike)]
        indices = [
            rows[_of_one_kind(margin[rows], places, functools.partial(_of_part, features, rows))]
            for rows, places in parts
            if places
        ]
        return np.concatenate(indices)
    return _of_one_kind(margin, count, features)


def _of_part(
    features: Callable[[NDArray[np.int64]], NDArray[np.float32]], rows: NDArray[np.int64], indices: NDArray[np.int64]
) -> NDArray[np.float32]:
    return features(rows[indices])


def _of_one_kind(
    margin: NDArray[np.float64], count: int, features: Callable[[NDArray[np.int64]], NDArray[np.float32]]
) -> NDArray[np.int64]:
    """Choose as `choose` does, but without separating unlike images."""
    order = np.argsort(margin, kind="stable")
    if len(order) <= count:
        return order
    competing = order[: _SHARE * count]
    seen = StandardScaler().fit_transform(features(competing))
    clusters = KMeans(count, n_init=1, random_state=0).fit_predict(seen)
    # `competing` is sorted by margin, so the first image of each cluster is its least sure one.
    _, first = np.unique(clusters, return_index=True)
    return competing[np.sort(first)]


def to_complete(table: pd.DataFrame, folder: Path) -> str:
    """Return the chosen images of a table (monitor.Findings) as CSV: path, and an empty label to fill in.

    `adaptformer data import FILE --add` reads the file after each image has a label.
    """
    to_label = table[table["label_next"] > 0].sort_values("label_next")
    paths = [(folder / path).resolve().as_posix() for path in to_label["path"]]
    return csv_file.text(pd.DataFrame({"path": paths, "label": ""}))
