"""Thumbnails of image files for pages."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from adaptformer.data import image_files
from adaptformer.data.decoding import DamagedImage
from adaptformer.data.preprocessing import ImageContract
from adaptformer.data.resizing import square

SIDE = 64
"""Pixels; small enough for 200 thumbnails on a page."""


def thumbnail(path: Path, side: int = SIDE) -> bytes:
    """Return a file's whole image on black as a PNG of `side` x `side` pixels; no bytes if it is unreadable."""
    contract = ImageContract(
        size=side,
        resize="pad",
        crop_fraction=1.0,
        interpolation="bilinear",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        jpeg_min_scale=2,
    )
    try:
        pixels = square(image_files.read(path, None), contract, None)
    except (OSError, DamagedImage):
        return b""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
