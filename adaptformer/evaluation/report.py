"""The page about an evaluation: one HTML file with its pictures inside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from adaptformer import html_page
from adaptformer.data.labelled import LabelledImages
from adaptformer.evaluation import report_confidence, report_images
from adaptformer.evaluation.metrics import Evaluation
from adaptformer.evaluation.scores import NAMES
from adaptformer.model.adapter_file import AdapterCard


class Drawings(NamedTuple):
    """The PNG files that the page shows."""

    confusion: Path
    per_class: Path
    calibration: Path
    curves: Path


def html(evaluation: Evaluation, card: AdapterCard, test: LabelledImages, drawings: Drawings) -> str:
    """Return the report of an evaluation on the images `test`; equal results give equal text."""
    sections = [
        ("Accuracy", _accuracy(evaluation)),
        ("Classes", _classes(evaluation, card, drawings.per_class.read_bytes())),
        ("Confusion", _confusion(evaluation, card, drawings.confusion.read_bytes())),
        ("Confidence", report_confidence.section(evaluation, drawings.calibration.read_bytes())),
        ("Images to look at", report_images.section(evaluation, card, test)),
        ("Training", _training(card, drawings.curves.read_bytes())),
        ("What was evaluated", html_page.table(["setting", "value"], _settings(card))),
    ]
    body = [
        html_page.tiles(_tiles(evaluation, card)),
        html_page.contents(heading for heading, _ in sections),
        *(html_page.section(heading, content) for heading, content in sections),
    ]
    return html_page.page("Evaluation on the test split", "\n".join(body))


def _tiles(evaluation: Evaluation, card: AdapterCard) -> list[tuple[str, str]]:
    return [
        *((NAMES[metric], html_page.percent(score.value)) for metric, score in evaluation.scores.items()),
        ("top-5", html_page.percent(evaluation.top(5))),
        ("calibration error", html_page.percent(evaluation.ece)),
        ("cross-entropy", f"{evaluation.loss:.4f}"),
        ("test images", f"{len(evaluation.labels):,}"),
        ("trained parameters", f"{card.trained:,}"),
        ("share of the backbone", html_page.percent(card.trained_share)),
    ]


def _accuracy(evaluation: Evaluation) -> str:
    rows = [
        (NAMES[metric], html_page.percent(score.value), html_page.between(score.low, score.high))
        for metric, score in evaluation.scores.items()
    ]
    return html_page.table(["metric", "on these images", "95 % interval"], rows) + html_page.note(
        "The intervals come from drawing the test images anew, with repetition. Balanced accuracy and macro-F1 are "
        "means over the classes: rare ones count as much as frequent ones."
    )


def _classes(evaluation: Evaluation, card: AdapterCard, drawing: bytes) -> str:
    counts = evaluation.confusion
    rows = [
        (
            name,
            int(counts[index].sum()),
            html_page.percent(share.value),
            html_page.between(share.low, share.high),
            _confused_with(counts[index], index, card.classes),
        )
        for index, (name, share) in enumerate(zip(card.classes, evaluation.per_class, strict=True))
        if counts[index].sum()
    ]
    columns = ["class", "test images", "top-1", "95 % interval", "most often taken for"]
    caption = "Lowest first. The fewer test images a class has, the wider its interval (Wilson's)."
    return html_page.figure(drawing, "Bars: top-1 of each class with its interval.", caption) + html_page.table(
        columns, rows, "each class, in the order of the model's outputs"
    )


def _confused_with(counts: NDArray[np.int64], true: int, classes: Sequence[str]) -> str:
    others = counts.copy()
    others[true] = 0
    return f"{classes[int(others.argmax())]} ({others.max()})" if others.any() else "none"


def _confusion(evaluation: Evaluation, card: AdapterCard, drawing: bytes) -> str:
    others = evaluation.confusion
    np.fill_diagonal(others, 0)
    true, predicted = divmod(int(others.argmax()), len(card.classes))
    caption = (
        f"The most frequent mistake: {card.classes[true]} taken for {card.classes[predicted]}, {others.max()} of "
        f"{others.sum()} mistakes."
        if others.any()
        else "There is no mistake."
    )
    return html_page.figure(drawing, "Matrix: rows are true classes, columns predicted ones.", caption)


def _training(card: AdapterCard, drawing: bytes) -> str:
    caption = f"Epoch {card.epoch} was chosen, by the validation split."
    return html_page.figure(drawing, "Curves: loss and top-1 of the training and validation splits.", caption)


def _settings(card: AdapterCard) -> list[tuple[str, str]]:
    return [
        *((name, str(value)) for name, value in sorted(card.adapter.items())),
        ("backbone", f"{card.backbone.model}, {card.backbone.origin}"),
        ("backbone sha256", card.backbone.sha256),
        ("licence of the backbone", card.backbone.licence),
        ("chosen epoch", str(card.epoch)),
        ("training precision", card.precision),
    ]
