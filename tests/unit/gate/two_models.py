"""Two models that a test can let be wrong where it likes: 180 test images of three classes, 60 each, in turn."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pandas as pd

from adaptformer.config.params import GateParams
from adaptformer.gate.decision import Decision
from adaptformer.gate.judging import decide
from adaptformer.gate.pairing import Side

CLASSES = ("ant", "bee", "cat")
IMAGES = 180
BOUNDS = GateParams(
    metric="top1", margin=0.0, significance=0.05, max_class_drop=0.05, min_class_images=20, max_negative_flips=None,
    max_shared_drop=0.05, min_added_top1=0.5, removed_classes=(), renamed_classes=(),
    max_log_loss_rise=0.05, max_latency_ratio=1.5, min_latency_ms=0.1, max_size_ratio=1.5,
    parity_tolerance=0.0001, warn_drift=0.1,
)  # fmt: skip


def label(image: int) -> str:
    return CLASSES[image % 3]


def sha256(*images: int) -> frozenset[str]:
    return frozenset(f"{image:064x}" for image in images)


def judged(version: str, wrong: Collection[int], images: int = IMAGES, **changes: Any) -> Side:
    """A model that takes the images `wrong` for the next class, and is well calibrated; `changes` are its fields."""
    numbers = range(images)
    confidence = 1 - len(set(wrong) & set(numbers)) / max(images, 1)
    predictions = pd.DataFrame(
        {
            "path": [f"test/{label(i)}/{i:03}.png" for i in numbers],
            "sha256": [f"{i:064x}" for i in numbers],
            "label": [label(i) for i in numbers],
            "predicted": [label(i + 1) if i in wrong else label(i) for i in numbers],
            "confidence": [confidence] * images,
            "probability_of_label": [0.9] * images,
        }
    )
    model = Side(version, CLASSES, predictions, seen=frozenset(), megabytes=2.0, latency_ms=1.0, parity=1e-6)
    return replace(model, **changes)


def answering(model: Side, **columns: dict[int, object]) -> Side:
    """The same model with other values, by image, in columns of its predictions."""
    table = model.predictions.copy()
    for column, values in columns.items():
        table[column] = [values.get(i, value) for i, value in enumerate(table[column])]
    return replace(model, predictions=table)


CHAMPION = judged("5", range(20))
BETTER = judged("7", range(5))
"""15 newly right, 5 in each class; none newly wrong."""


def decision(
    challenger: Side = BETTER, champion: Side | None = CHAMPION, earlier_looks: int = 0, **bounds: Any
) -> Decision:
    return decide(challenger, champion, BOUNDS.model_copy(update=bounds), earlier_looks=earlier_looks)


def failed(found: Decision) -> list[str]:
    return [check.name for check in found.checks if check.verdict == "fail"]


def reason(found: Decision, name: str) -> str:
    return next(check.reason for check in found.checks if check.name == name)
