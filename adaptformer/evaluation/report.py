"""The report of an evaluation: one HTML file with embedded pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adaptformer import pages
from adaptformer.base.classification_scores import NAMES
from adaptformer.config import describe
from adaptformer.config.params import AdapterParams
from adaptformer.data.labelled import LabelledImages
from adaptformer.evaluation import calibration, power, report_images, slices
from adaptformer.evaluation.evaluated_model import EvaluatedModel
from adaptformer.evaluation.intervals import Interval
from adaptformer.evaluation.metrics import Evaluation

_ANSWERED = (1.0, 0.95, 0.9, 0.8, 0.5)
"""Rows of the coverage table: the shares of images that are answered."""


_SLICES = 20
"""Largest number of slices that are listed, lowest top-1 first."""


class Drawings(NamedTuple):
    """The PNG files on the page."""

    confusion: Path
    per_class: Path
    calibration: Path
    curves: Path


class _Class(NamedTuple):
    """One row of the table of classes."""

    name: str
    images: int
    top1: Interval
    confused_with: str


@dataclass(frozen=True)
class AnsweredImages:
    """The test images, the table of predictions (predictions.table), and attention maps.

    `attention_maps` are the most confident mistakes (report_images.most_confident), shaded by the model's attention.
    """

    images: LabelledImages
    predictions: pd.DataFrame
    attention_maps: Sequence[NDArray[np.uint8]]


def html(model: EvaluatedModel, test: AnsweredImages, drawings: Drawings) -> str:
    """Return the report of an evaluation on the images `test`; equal results give equal text."""
    evaluation, card, training = model.evaluation, model.card, model.training
    adapter = AdapterParams.model_validate(card.adapter)
    by_score = _slices(model, test.predictions)
    return pages.render(
        "evaluation/report.html.j2",
        evaluation=evaluation,
        card=card,
        trained=describe.trained_parts(adapter, training),
        settings=describe.settings(adapter, training),
        training=training,
        data=model.data,
        leaks=model.leaks,
        names=NAMES,
        slices=by_score[:_SLICES],
        hidden_slices=max(len(by_score) - _SLICES, 0),
        worst_slice=slices.sentence(by_score),
        can_show=power.sentence(evaluation.independent, float(evaluation.correct.mean()), power.LEVEL),
        groups=None if evaluation.groups is None else int(evaluation.groups.max()) + 1,
        classes=_classes(evaluation, card.classes),
        most_frequent_mistake=_most_frequent_mistake(evaluation, card.classes),
        coverage=_coverage(evaluation),
        bins=calibration.reliability(evaluation.confidence, evaluation.correct),
        attention_maps=report_images.attention_maps(evaluation, card.classes, test.images, test.attention_maps),
        confusions=report_images.confusions(evaluation, card.classes, test.images),
        wrong=int((~evaluation.correct).sum()),
        image_groups=report_images.groups(evaluation, card.classes, test.images),
        drawings={name: path.read_bytes() for name, path in drawings._asdict().items()},
    )


def _slices(model: EvaluatedModel, predictions: pd.DataFrame) -> list[slices.Slice]:
    """Return the slices of the test images, lowest top-1 first; a class is one if it has enough images."""
    evaluation = model.evaluation
    classes = {f"class {name}": evaluation.labels == index for index, name in enumerate(model.card.classes)}
    large_enough = {name: mask for name, mask in classes.items() if slices.SUPPORT <= mask.sum() < len(mask)}
    return slices.find(evaluation.correct, large_enough | slices.masks(predictions), evaluation.groups)


def _classes(evaluation: Evaluation, classes: Sequence[str]) -> list[_Class]:
    counts = evaluation.confusion
    return [
        _Class(name, int(counts[index].sum()), top1, _confused_with(counts[index], index, classes))
        for index, (name, top1) in enumerate(zip(classes, evaluation.per_class, strict=True))
        if counts[index].any()
    ]


def _confused_with(counts: NDArray[np.int64], true: int, classes: Sequence[str]) -> str:
    others = counts.copy()
    others[true] = 0
    return f"{classes[int(others.argmax())]} ({others.max()})" if others.any() else "none"


def _most_frequent_mistake(evaluation: Evaluation, classes: Sequence[str]) -> str:
    others = evaluation.confusion
    np.fill_diagonal(others, 0)
    if not others.any():
        return "There is no mistake."
    true, predicted = divmod(int(others.argmax()), len(classes))
    return (
        f"The most frequent mistake: {classes[true]} classified as {classes[predicted]}, {others.max()} of "
        f"{others.sum()} mistakes."
    )


def _coverage(evaluation: Evaluation) -> list[tuple[float, float, float]]:
    """Return (share of answered images, lowest confidence among them, their accuracy) for each row of the table."""
    curve = calibration.coverage(evaluation.confidence, evaluation.correct)
    points = dict.fromkeys(curve.at(share) for share in _ANSWERED)  # few thresholds can give the same point twice
    return [(curve.share[i], curve.threshold[i], curve.accuracy[i]) for i in points]
