"""File bytes to RGB pixels: the only decoder of the project, and what it refuses.

Thread-safe: nothing global is switched while decoding.
"""

from __future__ import annotations

import io
import warnings
from typing import Any, NamedTuple

import numpy as np

# Named plugins only: Pillow would otherwise import every reader that it has as soon as one of these is asked for.
from PIL import Image, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin  # noqa: F401

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
MAX_PIXELS = 178_956_970
"""Twice Pillow's own warning line: above it an image is taken for a decompression bomb."""

# Up to MAX_PIXELS a large photograph is welcome; Pillow would warn from half of it on, once per image.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

_EXIF_ORIENTATION = 0x0112


class DamagedImage(ValueError):  # noqa: N818 - it names the image's state, as users read it
    """Bytes that are no image this project can use; the message is a short reason such as "truncated"."""


class Description(NamedTuple):
    """What a file says about its image: size in pixels as displayed (after the EXIF turn), Pillow's mode and format."""

    width: int
    height: int
    mode: str
    format: str


def decode(content: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a file's image as RGB.

    [height, width, 3] uint8, writable: the EXIF orientation is applied, transparency is laid on white, grey (16 bits
    scaled, not clipped), palette, 1-bit and CMYK are converted, an animation gives its first frame. Raises
    DamagedImage for everything else.
    """
    return _decoded(content)[0]


def describe(content: bytes) -> Description:
    """Decode a file fully, so that damage is found, and return its size, mode and format. Raises DamagedImage."""
    pixels, mode, format_name = _decoded(content)
    height, width = pixels.shape[:2]
    return Description(width, height, mode, format_name)


def _decoded(content: bytes) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], str, str]:
    if not content:
        raise DamagedImage("empty file")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DamagedImage(f"decompression bomb: {image.width} x {image.height} pixels")  # noqa: TRY301
            mode, format_name = image.mode, str(image.format)
            image.load()
            # Only now: PNG may store its EXIF behind the pixels, and TIFF turns itself while it loads.
            orientation = _orientation(image)
            pixels = _turned(_rgb(image), orientation)
    except (DamagedImage, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise DamagedImage(f"not an image ({', '.join(FORMATS)})") from error
    except Image.DecompressionBombError as error:
        raise DamagedImage("decompression bomb") from error
    # Pillow's readers raise almost anything on damaged bytes: OSError, SyntaxError, struct.error, IndexError, ...
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DamagedImage("truncated" if "truncated" in reason.lower() else f"damaged: {reason}") from error
    return pixels, mode, format_name


def _rgb(image: Image.Image) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a loaded image's pixels as [height, width, 3] uint8, not turned yet."""
    if image.mode == "F":
        raise DamagedImage("floating-point pixels, whose range is unknown")
    if image.mode.startswith("I"):
        return _from_sixteen_bits(np.asarray(image))
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        visible = image.convert("RGBA")
        white = Image.new("RGBA", visible.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, visible)
    return np.array(image.convert("RGB"))


def _from_sixteen_bits(grey: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Scale [height, width] grey values of 0..65535 to 0..255, rounded, in three equal channels."""
    if grey.min() < 0 or grey.max() > 65535:
        raise DamagedImage("grey values beyond 16 bits")
    eight_bits = ((grey.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.repeat(eight_bits[..., np.newaxis], 3, axis=2)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    # Damaged EXIF beside sound pixels is common in collected photographs: the image then counts as upright.
    except Exception:
        return 1


def _turned(pixels: np.ndarray[Any, np.dtype[np.uint8]], orientation: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Apply an EXIF orientation (1 to 8; anything else counts as upright)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
