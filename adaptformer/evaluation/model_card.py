"""The model card: description, origin and results of a model, in the Markdown format of model hubs.

Its content comes only from the files of a run, so equal results give equal text. The template is `model_card.md.j2`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import yaml

from adaptformer import pages
from adaptformer.base import text_table
from adaptformer.base.classification_scores import NAMES
from adaptformer.evaluation.evaluated_model import EvaluatedModel
from adaptformer.evaluation.intervals import Interval
from adaptformer.evaluation.metrics import Evaluation
from adaptformer.model.adapter_file import AdapterCard
from adaptformer.model.backbone_card import allows_commercial_use

_LISTED = 100
"""Largest number of class names that are listed."""
_WEAKEST = 5
_HUB = "hub:"
_RESIZING = {
    "crop": "the shorter side is resized to {0} pixels, then the centre of {0} × {0} is kept",
    "pad": "the longer side is resized to {0} pixels, then black bars make it {0} × {0}",
    "squash": "both sides are resized to {0} pixels, whatever their ratio",
}


def text(model: EvaluatedModel, images: Mapping[str, int]) -> str:
    """Return the model card; `images` are the numbers of images per split."""
    evaluation, card, training = model.evaluation, model.card, model.training
    counts = evaluation.confusion.sum(axis=1)
    settings = {"adapter": dict(card.adapter), "training": training.model_dump(mode="json")}
    return pages.render(
        "evaluation/model_card.md.j2",
        front_matter=_front_matter(card),
        evaluation=evaluation,
        metric_names=NAMES,
        card=card,
        backbone=card.backbone,
        commercial_use=allows_commercial_use(card.backbone.licence),
        image=card.image,
        resizing=_RESIZING,
        escaped=text_table.escaped,
        names=_names,
        triple=_triple,
        images=images,
        data=model.data,
        leaks=model.leaks,
        untested=[name for name, count in zip(card.classes, counts, strict=True) if not count],
        weakest=_weakest(evaluation, card.classes),
        training=training,
        settings=yaml.safe_dump(settings, default_flow_style=None, allow_unicode=True),
    )


def _front_matter(card: AdapterCard) -> str:
    backbone, licence = card.backbone, card.backbone.licence.lower()
    known = licence == "unknown" or allows_commercial_use(licence) is not None
    content = {
        "license": licence if known else "other",
        **({} if known else {"license_name": card.backbone.licence}),
        "base_model": backbone.origin.removeprefix(_HUB).partition("@")[0]
        if backbone.origin.startswith(_HUB)
        else backbone.model,
        "library_name": "onnx",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "vision-transformer", str(card.adapter["method"]), "onnx"],
        "metrics": ["accuracy", "f1"],
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _weakest(evaluation: Evaluation, classes: Sequence[str]) -> list[tuple[str, int, Interval]]:
    """Return (name, test images, top-1) of the classes with the lowest top-1, lowest first, ties by name."""
    counts = evaluation.confusion.sum(axis=1)
    tested = [row for row in zip(classes, map(int, counts), evaluation.per_class, strict=True) if row[1]]
    return sorted(tested, key=lambda row: (row[2].value, row[0]))[:_WEAKEST]


def _triple(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
    return ", ".join(text_table.escaped(name) for name in names[:_LISTED]) + more
