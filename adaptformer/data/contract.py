"""How an image becomes the model's input: the numbers that training, evaluation, export and the predictor share."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ImageContract:
    """Everything between a file's bytes and the model's input; travels with the adapter file and the ONNX file.

    `size` is the side, in pixels, that the model sees; `resize` is "crop", "pad" or "squash"; `crop_fraction` is the
    share of the resized side that evaluation keeps, in (0, 1]; `interpolation` is "bilinear" or "bicubic"; `mean` and
    `std` are per RGB channel, of values scaled to [0, 1], and come with the checkpoint.
    """

    size: int
    resize: str
    crop_fraction: float
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def stored_size(self) -> int:
        """The side, in pixels, of the square that is resized to and cached; the model sees its centre."""
        return round(self.size / self.crop_fraction)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> ImageContract:
        """Return the contract of its JSON form (`dataclasses.asdict`). Raises KeyError when a value is missing."""
        values = {field.name: content[field.name] for field in dataclasses.fields(cls)}
        return cls(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})
