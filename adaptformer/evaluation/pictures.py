"""The pictures of an evaluation, as PNG files without dates, so that equal results give equal bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from adaptformer import files
from adaptformer.evaluation.metrics import Evaluation

_INK, _ACCENT, _WRONG = "#1f2933", "#0b6e99", "#d1495b"
_MOST_LABELS = 40
"""Above this many classes, names on an axis cannot be read: ticks are left out."""


def confusion(path: Path, evaluation: Evaluation, classes: Sequence[str]) -> None:
    """Draw the confusion matrix, rows scaled to shares of the true class, counts written in where they fit."""
    counts = evaluation.confusion
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(12.0, 2.5 + 0.42 * len(classes))
    figure = Figure(figsize=(side + 0.6, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    if len(classes) <= 20:
        for row, column in np.argwhere(counts > 0):
            colour = "white" if shares[row, column] > 0.5 else _INK
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=8)
    if len(classes) <= _MOST_LABELS:
        axes.set_xticks(range(len(classes)), classes, rotation=90)
        axes.set_yticks(range(len(classes)), classes)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    _save(figure, path)


def per_class(path: Path, evaluation: Evaluation, classes: Sequence[str]) -> None:
    """Draw the top-1 accuracy of each class, lowest first (the lowest 40, where there are more)."""
    recall = evaluation.recall
    order = [index for index in np.argsort(recall, kind="stable") if not np.isnan(recall[index])][:_MOST_LABELS]
    figure = Figure(figsize=(7, 1.2 + 0.26 * len(order)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(range(len(order)), [recall[index] for index in order], color=_ACCENT)
    axes.set_yticks(range(len(order)), [classes[index] for index in order])
    axes.bar_label(bars, [f"{100 * recall[index]:.1f} %" for index in order], padding=6, fontsize=8)
    axes.axvline(evaluation.top(1), color=_WRONG, linewidth=1, linestyle="--")
    axes.set_xlim(0, 1.12)
    axes.set_xlabel("top-1 accuracy on the test split; dashed: all images")
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def examples(path: Path, evaluation: Evaluation, classes: Sequence[str], images: NDArray[np.uint8]) -> None:
    """Draw the most confident mistakes, then the least sure hits: 24 images [N, S, S, 3] at most."""
    confidence = evaluation.probabilities.max(axis=1)
    wrong = evaluation.predicted != evaluation.labels
    mistakes = [int(index) for index in np.argsort(-confidence, kind="stable") if wrong[index]][:12]
    unsure = [int(index) for index in np.argsort(confidence, kind="stable") if not wrong[index]][: 24 - len(mistakes)]
    chosen = mistakes + unsure
    columns = 8
    rows = -(-len(chosen) // columns)
    figure = Figure(figsize=(1.35 * columns, 1.75 * rows), layout="constrained")
    figure.suptitle(
        f"{len(mistakes)} most confident of {int(wrong.sum())} mistakes, then the least sure hits", fontsize=11
    )
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.axis("off")
    for axes, index in zip(figure.axes, chosen, strict=False):
        axes.imshow(images[index])
        true, predicted = classes[evaluation.labels[index]], classes[evaluation.predicted[index]]
        text = f"{true} → {predicted}" if wrong[index] else true
        axes.set_title(
            f"{_short(text)}\n{100 * confidence[index]:.0f} %", fontsize=8, color=_WRONG if wrong[index] else _INK
        )
    _save(figure, path)


def _short(text: str) -> str:
    return text if len(text) <= 24 else text[:23] + "…"


def _save(figure: Figure, path: Path) -> None:
    with files.replacing(path) as beside:
        figure.savefig(beside, dpi=110, metadata={"Software": None})
