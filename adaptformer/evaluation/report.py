"""What an evaluation leaves to read: a table of predictions and a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from adaptformer import page
from adaptformer.evaluation.metrics import Evaluation
from adaptformer.model.adapter_file import AdapterCard


def predictions(paths: Sequence[str], evaluation: Evaluation, classes: Sequence[str]) -> pd.DataFrame:
    """Return one row per test image: path, true label, predicted label, its probability, that of the true label."""
    probabilities = evaluation.probabilities
    names = np.asarray(classes, dtype=object)
    rows = np.arange(len(evaluation.labels))
    return pd.DataFrame(
        {
            "path": list(paths),
            "label": names[evaluation.labels],
            "predicted": names[evaluation.predicted],
            "confidence": probabilities.max(axis=1).round(6),
            "probability_of_label": probabilities[rows, evaluation.labels].round(6),
        }
    )


def html(evaluation: Evaluation, card: AdapterCard, pictures: dict[str, Path]) -> str:
    """Return the report as one page with its pictures inside; `pictures` are captions and PNG files."""
    figures = [
        ("top-1", f"{100 * evaluation.top(1):.2f} %"),
        ("top-5", f"{100 * evaluation.top(5):.2f} %"),
        ("cross-entropy", f"{evaluation.loss:.4f}"),
        ("test images", f"{len(evaluation.labels):,}"),
        ("trained parameters", f"{card.trained:,}"),
        ("share of the backbone", f"{100 * card.trained_share:.2f} %"),
    ]
    counts = evaluation.confusion
    rows = [
        (
            name,
            int(counts[index].sum()),
            f"{100 * evaluation.recall[index]:.2f} %",
            _confused_with(counts[index], index, card),
        )
        for index, name in enumerate(card.classes)
        if counts[index].sum()
    ]
    settings = [(name, str(value)) for name, value in sorted(card.adapter.items())]
    settings += [
        ("backbone", f"{card.backbone.model}, {card.backbone.origin}"),
        ("backbone sha256", card.backbone.sha256),
        ("licence of the backbone", card.backbone.licence),
        ("chosen epoch", str(card.epoch)),
        ("training precision", card.precision),
    ]
    body = [
        page.tiles(figures),
        *(page.section(caption, str(page.picture(path.read_bytes(), caption))) for caption, path in pictures.items()),
        page.section("Each class", page.table(["class", "test images", "top-1", "most often taken for"], rows)),
        page.section("What was evaluated", page.table(["", ""], settings)),
    ]
    return page.page("Evaluation on the test split", "\n".join(body))


def _confused_with(counts: np.ndarray[tuple[int], np.dtype[np.int64]], true: int, card: AdapterCard) -> str:
    others = counts.copy()
    others[true] = 0
    return f"{card.classes[int(others.argmax())]} ({others.max()})" if others.any() else "none"
