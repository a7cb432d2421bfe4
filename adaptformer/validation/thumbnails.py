"""Small pictures of image files for pages."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from adaptformer.data.contract import ImageContract
from adaptformer.data.decoding import DamagedImage
from adaptformer.data.resizing import square

# Whole images on black, small enough that 200 of them stay a page.
_THUMBNAIL = ImageContract(
    size=64,
    resize="pad",
    crop_fraction=1.0,
    interpolation="bilinear",
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    oversampling=2,
)


def thumbnail(path: Path) -> bytes:
    """Return a file's image as a PNG of 64 x 64 pixels, the whole of it on black; no bytes where it cannot be read."""
    try:
        pixels = square(path.read_bytes(), _THUMBNAIL)
    except (OSError, DamagedImage):
        return b""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
