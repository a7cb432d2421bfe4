"""Test images for the report: mistakes, and correct predictions of low confidence.

The functions that select images return at most `count` indices; ties keep the order of the images.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from adaptformer.data.labelled import LabelledImages
from adaptformer.evaluation.metrics import Evaluation
from adaptformer.pages import percent

SHOWN = 12
"""Largest number of images in each group."""
_SIDE = 128
"""Largest side of an embedded picture in pixels; the page displays it smaller."""

_CONFUSIONS = 10


class Confusion(NamedTuple):
    """A pair of true and predicted class: its number of images, a heading, and pictures of the most confident ones."""

    true: str
    predicted: str
    total: int
    heading: str
    items: list[tuple[bytes, str]]


Group = tuple[str, list[tuple[bytes, str]]]
"""A heading, and PNGs with their captions."""


def most_confident(evaluation: Evaluation, count: int) -> list[int]:
    """Return the mistakes with the highest confidence, highest first."""
    return _first(-evaluation.confidence, ~evaluation.correct, count)


def worst(evaluation: Evaluation, count: int) -> list[int]:
    """Return the mistakes whose true class was given the lowest probability, lowest first."""
    return _first(evaluation.probability_of_label, ~evaluation.correct, count)


def least_confident(evaluation: Evaluation, count: int) -> list[int]:
    """Return the correct predictions with the lowest confidence, lowest first."""
    return _first(evaluation.confidence, evaluation.correct, count)


def _first(value: NDArray[np.float64], among: NDArray[np.bool_], count: int) -> list[int]:
    return [int(index) for index in np.argsort(value, kind="stable") if among[index]][:count]


def groups(evaluation: Evaluation, classes: Sequence[str], test: LabelledImages) -> list[Group]:
    """Return groups of images; captions have the labels, their probabilities, and the path below data/."""
    confident = most_confident(evaluation, SHOWN)
    if (~evaluation.correct).sum() <= SHOWN:
        headed = {"All mistakes, most confident first": confident}
    else:
        headed = {
            "Most confident mistakes: highest probability of the predicted class": confident,
            "Worst mistakes: lowest probability of the true class": worst(evaluation, SHOWN),
        }
    headed["Correct, but least confident"] = least_confident(evaluation, SHOWN)
    return [
        (heading, [(_small(test.images[i]), _caption(evaluation, classes, test.paths[i], i)) for i in indices])
        for heading, indices in headed.items()
    ]


def attention_maps(
    evaluation: Evaluation, classes: Sequence[str], test: LabelledImages, maps: Sequence[NDArray[np.uint8]]
) -> list[tuple[bytes, str]]:
    """Return the attention maps of the most confident mistakes (attention.pictures), with their captions."""
    mistakes = most_confident(evaluation, SHOWN)
    return [
        (_small(pixels), _caption(evaluation, classes, test.paths[index], index))
        for index, pixels in zip(mistakes, maps, strict=True)
    ]


def confusions(evaluation: Evaluation, classes: Sequence[str], test: LabelledImages) -> list[Confusion]:
    """Return the most frequent confusions with their images; ties are in the order of the classes."""
    counts = evaluation.confusion
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:_CONFUSIONS]
    most_frequent = []
    for number, cell in enumerate(order.tolist(), start=1):
        true, predicted = divmod(cell, len(classes))
        if not counts[true, predicted]:
            break
        of_cell = (evaluation.labels == true) & (evaluation.predicted == predicted)
        items = [
            (_small(test.images[i]), _caption(evaluation, classes, test.paths[i], i))
            for i in _first(-evaluation.confidence, of_cell, SHOWN)
        ]
        heading = f"Confusion {number}: {classes[true]} classified as {classes[predicted]}"
        most_frequent.append(Confusion(classes[true], classes[predicted], int(counts[true, predicted]), heading, items))
    return most_frequent


def _caption(evaluation: Evaluation, classes: Sequence[str], path: str, index: int) -> str:
    true = f"{classes[evaluation.labels[index]]}: {percent(evaluation.probability_of_label[index])}"
    if evaluation.correct[index]:
        return f"{true}\n{path}"
    predicted = f"{classes[evaluation.predicted[index]]}: {percent(evaluation.confidence[index])}"
    return f"true {true}\npredicted {predicted}\n{path}"


def _small(pixels: NDArray[np.uint8]) -> bytes:
    image = Image.fromarray(np.asarray(pixels))
    image.thumbnail((_SIDE, _SIDE))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
