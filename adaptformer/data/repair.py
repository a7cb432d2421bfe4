"""JPEG files that lack their end, made whole: what is there stays as it is, and the rest is grey."""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
from PIL import Image

from adaptformer.data.decoding import DamagedImage, decode

_START, _END = b"\xff\xd8\xff", b"\xff\xd9"
_GREY = 128
"""What the decoder puts where a file has no more data."""
_BLOCK = 8
"""Pixels a side of a block, the least that is grey."""


class Repaired(NamedTuple):
    """A JPEG that ends as it should; `grey` of its `rows` have no data, or data for a part of their pixels only.

    A progressive file has no grey rows: all of it is less sharp.
    """

    content: bytes
    grey: int
    rows: int


def with_end(content: bytes, max_pixels: int | None) -> Repaired | None:
    """Return a truncated JPEG with the mark of an end, or None if it is no JPEG or cannot be decoded even then."""
    if not content.startswith(_START):
        return None
    whole = content.removesuffix(_END[:1]) + _END
    try:
        decode(whole, max_pixels)
    except DamagedImage:
        return None
    with Image.open(io.BytesIO(whole), formats=["JPEG"]) as image:  # as it is stored: EXIF may turn its end to any side
        pixels = np.asarray(image.convert("RGB"))
    ends_in_grey = (pixels[:, -_BLOCK:] == _GREY).all(axis=(1, 2))[::-1]
    return Repaired(whole, len(pixels) if ends_in_grey.all() else int(ends_in_grey.argmin()), len(pixels))
