"""A map of a data set: images as points, close together if the backbone's features are similar.

Shapes: N images, D width of the backbone.
"""

from __future__ import annotations

import io

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.manifold import TSNE
from sklearn.preprocessing import StandardScaler

IMAGES = 1000
"""The largest number of images drawn, those with the smallest sha256: more points would hide each other."""
_NEIGHBOURS = 30
_LISTED = 20
"""The largest number of classes in the legend: with more, it would be larger than the map."""
_FEWEST = 10


def draw(manifest: pd.DataFrame, features: NDArray[np.float32], likely_wrong: set[str]) -> bytes:
    """Return a PNG of the map, or no bytes if there are fewer than _FEWEST images.

    `features` [N, D] are those of the manifest's rows; images whose paths are in `likely_wrong` are circled. Equal
    input gives equal bytes.
    """
    order = np.argsort(manifest["sha256"].to_numpy(), kind="stable")[:IMAGES]
    if len(order) < _FEWEST:
        return b""
    scaled = StandardScaler().fit_transform(features[order])
    neighbours = min(_NEIGHBOURS, (len(order) - 1) // 3)
    places = TSNE(perplexity=neighbours, init="pca", random_state=0).fit_transform(scaled)
    labels, paths = (manifest[column].to_numpy()[order] for column in ("label", "path"))
    classes = sorted(set(manifest["label"]))
    colours = matplotlib.colormaps["tab20" if len(classes) <= _LISTED else "hsv"]
    figure = Figure(figsize=(8, 6), layout="constrained")
    axes = figure.subplots()
    for index, name in enumerate(classes):
        of_class = labels == name
        colour = colours(index if len(classes) <= _LISTED else index / len(classes))
        x, y = places[of_class].T
        axes.scatter(x, y, s=12, color=colour, label=name, linewidths=0)
    wrong = np.isin(paths, list(likely_wrong))
    x, y = places[wrong].T
    axes.scatter(x, y, s=60, facecolors="none", edgecolors="#d1495b", linewidths=1.2)
    axes.set_xticks([])
    axes.set_yticks([])
    if len(classes) <= _LISTED:
        figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100, metadata={"Software": None})
    return file.getvalue()
