"""The image contract: how an image becomes the model's input, shared by training, evaluation, export and the predictor.

Contracts are read from files that others may have written, so they are checked. The checks are hand-written because the
predictor does not import pydantic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from adaptformer.config import renamed

LARGEST_SIDE, LARGEST_STORED = 2048, 8192
"""The largest input side of a model, and the largest side that an image is resized to before its margin is cut off, in
pixels. An image of the latter takes 200 MB of memory."""
_MIN_SCALE = 1000


@dataclass(frozen=True)
class ImageContract:
    """All steps between a file's bytes and the model's input; stored in the adapter file and in the ONNX file.

    `size` is the side of the model's input in pixels; `resize` is "crop", "pad" or "squash"; `crop_fraction` is the
    share of the resized side that evaluation keeps, in (0, 1]; `interpolation` is "bilinear" or "bicubic"; `mean` and
    `std` are per RGB channel, for values scaled to [0, 1], and come with the checkpoint. A JPEG is decoded at 1/2, 1/4
    or 1/8 of its scale if its shorter side then still has `jpeg_min_scale` times the stored pixels; 0 always decodes in
    full, as versions without this value did. `sixteen_bit_max` is the value of a 16-bit image that becomes white: 4095
    for a 12-bit camera.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True, "allow_inf_nan": False}

    size: int
    resize: str
    crop_fraction: float
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    jpeg_min_scale: int = 0
    sixteen_bit_max: int = 65535

    @property
    def stored_size(self) -> int:
        """The side, in pixels, of the resized and cached square; the model sees its centre."""
        return round(self.size / self.crop_fraction)

    @classmethod
    def from_dict(cls, content: object) -> ImageContract:
        """Return the contract of its JSON form (`dataclasses.asdict`).

        A file without `jpeg_min_scale` or `sixteen_bit_max` was written before these existed and gets their defaults;
        `jpeg_min_scale` may have its earlier name.
        Raises ValueError, one line, for anything else that is missing, unknown, of another type or out of range.
        """
        fault = next(faults(content), None)
        if fault is not None or not isinstance(content, dict):
            raise ValueError(fault)
        values = renamed.with_present_names("image", content)
        return cls(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})


def faults(content: object) -> Iterator[str]:
    """Yield the faults of a contract in its JSON form, a line each, such as "size is 0, not ..."."""
    if not isinstance(content, dict):
        yield "it is no table"
        return
    content = renamed.with_present_names("image", content)
    sound = True
    for key, (is_right, requirement) in _VALUES.items():
        value = content.get(key, _LATER.get(key))
        if not is_right(value):
            sound = False
            yield f"{key} is {_brief(value)}, not {requirement}"
    for key in content:
        if key not in _VALUES:
            yield f"{_brief(key)} is no part of an image contract that this version knows"
    if sound and content["size"] / content["crop_fraction"] > LARGEST_STORED:
        yield f"crop_fraction is so small that images would be resized to more than {LARGEST_STORED} pixels a side"


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _within(low: int, high: int) -> tuple[Callable[[Any], bool], str]:
    return lambda value: _whole(value) and low <= value <= high, f"a whole number from {low} to {high}"


def _one_of(*values: str) -> tuple[Callable[[Any], bool], str]:
    return lambda value: isinstance(value, str) and value in values, f"one of {', '.join(values)}"


def _number(value: Any) -> bool:
    return (isinstance(value, float) and math.isfinite(value)) or (_whole(value) and abs(value) <= LARGEST_STORED)


def _share(value: Any) -> bool:
    return _number(value) and 0 < value <= 1


def _three(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 3 and all(map(_number, value))


def _three_above_0(value: Any) -> bool:
    return _three(value) and all(one > 0 for one in value)


_VALUES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "size": _within(1, LARGEST_SIDE),
    "resize": _one_of("crop", "pad", "squash"),
    "crop_fraction": (_share, "a number above 0 and up to 1"),
    "interpolation": _one_of("bilinear", "bicubic"),
    "mean": (_three, "three numbers"),
    "std": (_three_above_0, "three numbers above 0"),
    "jpeg_min_scale": _within(0, _MIN_SCALE),
    "sixteen_bit_max": _within(1, 65535),
}
_LATER = {"jpeg_min_scale": 0, "sixteen_bit_max": 65535}
"""Keys that were added later, with the values that apply to files without them."""


def _brief(value: object) -> str:
    try:
        return repr(value)[:60]
    except ValueError:  # a number of more digits than Python shows
        return "a number of very many digits"
