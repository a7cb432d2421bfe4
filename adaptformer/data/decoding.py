"""File bytes to RGB pixels: the only image decoder of the project.

Thread-safe: decoding changes no global state.
"""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np

# Without these imports, Pillow imports every reader that it has as soon as one of these formats is opened.
from PIL import Image, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin  # noqa: F401

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
MAX_PIXELS = 178_956_970
"""The most pixels of an image, twice Pillow's warning threshold; a larger one is refused as a decompression bomb."""

# Images of up to MAX_PIXELS are accepted, but Pillow warns about each one above half of that.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

_EXIF_ORIENTATION = 0x0112


class DamagedImage(ValueError):  # noqa: N818 - named after the state of the image
    """Raised for bytes that are not a usable image; the message is a short reason such as "truncated"."""


def decode(content: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a file's image as RGB.

    The array is [height, width, 3] uint8 and writable. The EXIF orientation is applied; transparent pixels are blended
    with white; grey (16 bits are scaled, not clipped), palette, 1-bit and CMYK images are converted; of an animation,
    the first frame is used. Raises DamagedImage for everything else.
    """
    return decode_with_mode(content)[0]


def decode_with_mode(content: bytes) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], str]:
    """Return a file's image as `decode` does, and the mode in which Pillow read it. Raises DamagedImage."""
    if not content:
        raise DamagedImage("empty file")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DamagedImage(f"decompression bomb: {image.width} x {image.height} pixels")  # noqa: TRY301
            mode = image.mode
            image.load()
            # After loading, because PNG may store EXIF after the pixels, and Pillow rotates a TIFF while it loads it.
            return _upright(_rgb(image), _orientation(image)), mode
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


def _rgb(image: Image.Image) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a loaded image's pixels as [height, width, 3] uint8, as they are stored."""
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
    # Collected photographs often have damaged EXIF and intact pixels: such an image counts as upright.
    except Exception:
        return 1


def _upright(pixels: np.ndarray[Any, np.dtype[np.uint8]], orientation: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Apply an EXIF orientation (1 to 8; anything else counts as upright)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
