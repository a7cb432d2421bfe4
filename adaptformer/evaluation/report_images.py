"""The report's section of single test images: mistakes, and hits by a hair."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from adaptformer import html_page
from adaptformer.data.labelled import LabelledImages
from adaptformer.evaluation import mistakes
from adaptformer.evaluation.metrics import Evaluation
from adaptformer.model.adapter_file import AdapterCard

_SHOWN = 12
"""Images in each group."""
_SIDE = 128
"""Largest side of a picture in pixels; the page shows it smaller."""


def section(evaluation: Evaluation, card: AdapterCard, test: LabelledImages) -> str:
    """Return the section as HTML; each image stands above its labels, their probabilities and its path below data/."""
    wrong = int((~evaluation.correct).sum())
    parts = [html_page.note(f"{wrong:,} of {len(evaluation.labels):,} test images were taken for another class.")]
    for heading, indices in _groups(evaluation, wrong):
        items = [
            (_small(test.images[index]), _caption(evaluation, card, test.paths[index], index)) for index in indices
        ]
        if items:
            parts.append(f"<h3>{heading}</h3>\n{html_page.pictures(items)}\n")
    return "".join(parts)


def _groups(evaluation: Evaluation, wrong: int) -> list[tuple[str, list[int]]]:
    surest, unsure = mistakes.most_confident(evaluation, _SHOWN), mistakes.least_sure(evaluation, _SHOWN)
    if wrong <= _SHOWN:
        return [("All mistakes, most confident first", surest), ("Right, but least sure", unsure)]
    return [
        ("Most confident mistakes: highest probability of the predicted class", surest),
        ("Worst mistakes: lowest probability of the true class", mistakes.worst(evaluation, _SHOWN)),
        ("Right, but least sure", unsure),
    ]


def _caption(evaluation: Evaluation, card: AdapterCard, path: str, index: int) -> str:
    true = f"{card.classes[evaluation.labels[index]]}: {html_page.percent(evaluation.probability_of_label[index])}"
    if evaluation.correct[index]:
        return f"{true}\n{path}"
    taken = f"{card.classes[evaluation.predicted[index]]}: {html_page.percent(evaluation.confidence[index])}"
    return f"true {true}\npredicted {taken}\n{path}"


def _small(pixels: NDArray[np.uint8]) -> bytes:
    image = Image.fromarray(np.asarray(pixels))
    image.thumbnail((_SIDE, _SIDE))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
