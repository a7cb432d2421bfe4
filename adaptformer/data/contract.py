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
    `std` are per RGB channel, of values scaled to [0, 1], and come with the checkpoint. A JPEG is decoded at 1/2, 1/4
    or 1/8 of its scale where its shorter side keeps `oversampling` times the pixels that are stored of it; with 0
    always in full, as files were before there was this value. `sixteen_bit_max` is the value of an image of 16 bits
    that becomes white: 4095 for a camera of 12 bits.
    """

    size: int
    resize: str
    crop_fraction: float
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    oversampling: int = 0
    sixteen_bit_max: int = 65535

    @property
    def stored_size(self) -> int:
        """The side, in pixels, of the square that is resized to and cached; the model sees its centre."""
        return round(self.size / self.crop_fraction)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> ImageContract:
        """Return the contract of its JSON form (`dataclasses.asdict`).

        Raises KeyError when a value is missing; a file without `oversampling` is older than it and means 0.
        """
        values = {
            field.name: content[field.name]
            for field in dataclasses.fields(cls)
            if field.name in content or field.default is dataclasses.MISSING
        }
        return cls(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})
