"""Repair of truncated JPEG files: the bytes that are there stay unchanged, and the missing pixels are grey."""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
from PIL import Image

from adaptformer.data.decoding import DamagedImage, decode

_START, _END = b"\xff\xd8\xff", b"\xff\xd9"
_GREY = 128
"""The value that the decoder gives to pixels without data."""
_BLOCK = 8
"""Side of a JPEG block in pixels, the smallest area that can be grey."""


class Repaired(NamedTuple):
    """A JPEG with its end mark; `grey` of its `rows` lack data for some or all of their pixels.

    A progressive file has no grey rows: the whole image is less sharp instead.
    """

    content: bytes
    grey: int
    rows: int


def with_end(content: bytes, max_pixels: int | None) -> Repaired | None:
    """Return a truncated JPEG with its end mark added, or None if it is not a JPEG or still cannot be decoded."""
    if not content.startswith(_START):
        return None
    whole = content.removesuffix(_END[:1]) + _END
    try:
        decode(whole, max_pixels)
    except DamagedImage:
        return None
    with Image.open(io.BytesIO(whole), formats=["JPEG"]) as image:  # without EXIF, which may rotate the end elsewhere
        pixels = np.asarray(image.convert("RGB"))
    ends_in_grey = (pixels[:, -_BLOCK:] == _GREY).all(axis=(1, 2))[::-1]
    return Repaired(whole, len(pixels) if ends_in_grey.all() else int(ends_in_grey.argmin()), len(pixels))
