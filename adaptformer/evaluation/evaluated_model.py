"""A model with its results, as the report and the model card describe it."""

from __future__ import annotations

from dataclasses import dataclass

from adaptformer.config.params import DataParams, TrainingParams
from adaptformer.evaluation.metrics import Evaluation
from adaptformer.model.adapter_file import AdapterCard


@dataclass(frozen=True)
class EvaluatedModel:
    """A model, the params of its training, and its answers on the test images.

    `leaks` is the sentence about near duplicates of training images (leaks.py).
    """

    card: AdapterCard
    training: TrainingParams
    data: DataParams
    evaluation: Evaluation
    leaks: str
