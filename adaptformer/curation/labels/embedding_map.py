"""A map of a data set: images as points, close together if the backbone's features are similar.

Shapes: N images, D width of the backbone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.manifold import TSNE
from sklearn.preprocessing import StandardScaler

IMAGES = 1000
"""The largest number of images drawn, those with the smallest sha256: more points would hide each other."""
COLOURS, SHAPES = 6, 4
"""Classes differ in colour and in shape, so that they also differ for a reader who does not see some colours."""
WIDTH, HEIGHT = 800, 600
_MARGIN = 12
_NEIGHBOURS = 30
_FEWEST = 10


@dataclass(frozen=True)
class Point:
    """An image on the map: its place in a picture of WIDTH x HEIGHT, and whether its label is likely wrong.

    `colour` and `shape` are those of its class, numbers from 0.
    """

    path: str
    label: str
    x: float
    y: float
    colour: int
    shape: int
    likely_wrong: bool

    @property
    def outline(self) -> str:
        """The point's shape as the path of an SVG."""
        return outline(self.shape, self.x, self.y)


def points(manifest: pd.DataFrame, features: NDArray[np.float32], likely_wrong: set[str]) -> list[Point]:
    """Return the points of the map, none if there are fewer than _FEWEST images.

    `features` [N, D] are those of the manifest's rows; `likely_wrong` are paths. Equal input gives equal points.
    """
    order = np.argsort(manifest["sha256"].to_numpy(), kind="stable")[:IMAGES]
    if len(order) < _FEWEST:
        return []
    scaled = StandardScaler().fit_transform(features[order])
    neighbours = min(_NEIGHBOURS, (len(order) - 1) // 3)
    places = TSNE(perplexity=neighbours, init="pca", random_state=0).fit_transform(scaled)
    places = (places - places.min(axis=0)) / np.maximum(np.ptp(places, axis=0), 1e-9)
    places = _MARGIN + places * (np.array([WIDTH, HEIGHT]) - 2 * _MARGIN)
    looks = {name: look(number) for number, name in enumerate(sorted(set(manifest["label"])))}
    rows = manifest.iloc[order]
    return [
        Point(path, label, round(float(x), 1), round(float(y), 1), *looks[label], path in likely_wrong)
        for path, label, (x, y) in zip(rows["path"], rows["label"], places, strict=True)
    ]


def look(number: int) -> tuple[int, int]:
    """Return colour and shape of a class by its number; COLOURS x SHAPES classes differ."""
    return number % COLOURS, number // COLOURS % SHAPES


def outline(shape: int, x: float, y: float) -> str:
    """Return a shape around a place as the path of an SVG: a disc, a square, a triangle, or a diamond."""
    return (
        f"M{x - 4:.1f} {y:.1f}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
        f"M{x - 3.5:.1f} {y - 3.5:.1f}h7v7h-7z",
        f"M{x:.1f} {y - 5:.1f}l4.5 8h-9z",
        f"M{x:.1f} {y - 5.5:.1f}l4.5 5.5l-4.5 5.5l-4.5 -5.5z",
    )[shape]
