"""Pictures of an evaluation as PNG files without dates, so that equal results give equal bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from adaptformer.base import files
from adaptformer.data.eval_images import Images
from adaptformer.evaluation import calibration as calibrating
from adaptformer.evaluation import report_images
from adaptformer.evaluation.intervals import Interval
from adaptformer.evaluation.metrics import Evaluation

_INK, _ACCENT, _PALE, _WRONG = "#1f2933", "#0b6e99", "#86b9d1", "#d1495b"
_TENTHS = [i / 10 for i in range(11)]
_MOST_LABELS = 40
"""With more classes, names on an axis would be illegible, and ticks are left out."""


def confusion(path: Path, evaluation: Evaluation, classes: Sequence[str]) -> None:
    """Draw the confusion matrix, rows scaled to shares of the true class, with counts if they fit."""
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
    """Draw each class's top-1 accuracy with its interval, lowest first (the lowest 40, if there are more)."""
    shares = evaluation.per_class
    tested = np.flatnonzero(evaluation.confusion.any(axis=1)).tolist()
    order = sorted(tested, key=lambda index: shares[index].value)[:_MOST_LABELS]
    shown = [shares[index] for index in order]
    figure = Figure(figsize=(7, 1.2 + 0.26 * len(order)), layout="constrained")
    axes = figure.subplots()
    axes.barh(
        range(len(order)), [share.value for share in shown], xerr=_reach(shown), color=_PALE, ecolor=_INK, capsize=2
    )
    axes.set_yticks(range(len(order)), [_short(classes[index]) for index in order])
    for place, share in enumerate(shown):
        axes.text(1.03, place, f"{100 * share.value:.1f} %", va="center", fontsize=8)
    axes.axvline(evaluation.top(1), color=_WRONG, linewidth=1, linestyle="--")
    axes.set_xlim(0, 1.15)
    axes.set_xticks(_TENTHS[::2])
    axes.set_xlabel("top-1 accuracy on the test split, with 95 % intervals; dashed: all images")
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def calibration(path: Path, evaluation: Evaluation) -> None:
    """Draw the reliability diagram and, beside it, the accuracy of the most confident images against their share."""
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    _reliability(left, calibrating.reliability(evaluation.confidence, evaluation.correct))
    left.set_title(f"calibration error {100 * evaluation.ece:.2f} %", fontsize=11)
    curve = calibrating.coverage(evaluation.confidence, evaluation.correct)
    right.plot(curve.share, curve.accuracy, color=_ACCENT)
    right.set_title("accuracy of the most confident images", fontsize=11)
    right.set_xlabel("share of the test images")
    right.set_ylabel("top-1 accuracy")
    right.set_xlim(0, 1)
    right.set_ylim(max(0.0, curve.accuracy.min() - 0.05), 1.005)
    for axes in (left, right):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def _reliability(axes: Axes, bins: Sequence[calibrating.Bin]) -> None:
    filled = [part for part in bins if part.images]
    accuracies = [part.accuracy for part in filled]
    axes.bar(
        [part.low for part in filled], [share.value for share in accuracies], width=1 / len(bins), align="edge",
        yerr=_reach(accuracies), color=_PALE, edgecolor="white", ecolor=_INK, capsize=2,
        label="accuracy, 95 % interval",
    )  # fmt: skip
    axes.plot([0, 1], [0, 1], color=_WRONG, linewidth=1, linestyle="--", label="perfectly calibrated")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xticks(_TENTHS[::2])
    axes.set_xlabel("confidence")
    axes.set_ylabel("top-1 accuracy")
    axes.legend(frameon=False, fontsize=8, loc="upper left")


def _reach(shares: Sequence[Interval]) -> NDArray[np.float64]:
    """Return the distances from the values to their lower and upper limits [2, number]."""
    below = [share.value - share.low for share in shares]
    above = [share.high - share.value for share in shares]
    # At shares of 0 and 1, rounding can give a tiny negative distance, which matplotlib refuses.
    reach: NDArray[np.float64] = np.array([below, above]).clip(min=0.0)
    return reach


def examples(path: Path, evaluation: Evaluation, classes: Sequence[str], images: Images) -> None:
    """Draw at most 24 of the images [N, S, S, 3]: the most confident mistakes, then the least confident others."""
    confidence, wrong = evaluation.confidence, ~evaluation.correct
    confident = report_images.most_confident(evaluation, 12)
    shown = confident + report_images.least_confident(evaluation, 24 - len(confident))
    columns = 8
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(1.35 * columns, 1.75 * rows), layout="constrained")
    figure.suptitle(
        f"{len(confident)} most confident of {int(wrong.sum())} mistakes, then the least confident correct predictions",
        fontsize=11,
    )
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.axis("off")
    for axes, index in zip(figure.axes, shown, strict=False):
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
    with files.replacing(path) as new_file:
        figure.savefig(new_file, dpi=110, metadata={"Software": None})
