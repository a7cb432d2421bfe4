"""How an image becomes the model's input: the numbers that training, evaluation, export and the predictor share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from adaptformer import schema

LARGEST_SIDE = 2048
"""The largest side that a model may see, in pixels; what is stored for it may have four times that."""


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

    __pydantic_config__: ClassVar[ConfigDict] = schema.STRICT

    size: Annotated[int, Field(ge=1, le=LARGEST_SIDE)]
    resize: Literal["crop", "pad", "squash"]
    crop_fraction: Annotated[float, Field(gt=0, le=1)]
    interpolation: Literal["bilinear", "bicubic"]
    mean: schema.Means
    std: schema.Deviations
    oversampling: Annotated[int, Field(ge=0, le=2**31)] = 0
    sixteen_bit_max: Annotated[int, Field(ge=1, le=65535)] = 65535

    @property
    def stored_size(self) -> int:
        """The side, in pixels, of the square that is resized to and cached; the model sees its centre."""
        return round(self.size / self.crop_fraction)

    @classmethod
    def from_dict(cls, content: object) -> ImageContract:
        """Return the contract of its JSON form (`dataclasses.asdict`).

        A file without `oversampling` is older than it and means 0. Raises ValueError, one line, for anything else that
        is missing, unknown, of another type or out of range.
        """
        contract = schema.parse(cls, content)
        if contract.stored_size > 4 * LARGEST_SIDE:
            raise ValueError(f"crop_fraction: {contract.crop_fraction} is too small for size {contract.size}")
        return contract
