"""File bytes to RGB pixels: the only image decoder of the project.

Thread-safe: decoding changes no global state.
"""

from __future__ import annotations

import io
from typing import Any, NamedTuple

import numpy as np

# Without these imports, Pillow imports every reader that it has as soon as one of these formats is opened.
from PIL import AvifImagePlugin, Image, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin  # noqa: F401

from adaptformer.data import pillow_remarks, unreadable

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", *(["AVIF"] if AvifImagePlugin.SUPPORTED else []))
"""The formats that are always read. HEIC is read too if pillow-heif is installed."""
MAX_PIXELS = 120_000_000
"""The largest number of pixels of an image; commands that read params.yaml use data.max_megapixels instead."""

TRUNCATED = "truncated"
"""The reason given for a file that lacks its end."""
SIXTEEN_BITS = 65535
"""The largest value of 16 bits."""

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Box = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels, fractions included, as Pillow's `resize` takes them."""

# Pillow's own bound cannot be chosen for each file; `decode_reduced` compares the size before anything is decoded.
Image.MAX_IMAGE_PIXELS = None

_EXIF_ORIENTATION = 0x0112
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
# Of EXIF's eight orientations, those that are displayed with width and height exchanged, and, after that, mirrored.
_LYING, _LEFT_TO_RIGHT, _UPSIDE_DOWN = (5, 6, 7, 8), (2, 3, 6, 7), (3, 4, 7, 8)


class DamagedImage(ValueError):  # noqa: N818 - named after the state of the image
    """Raised for bytes that are not a usable image; the message is a short reason such as "truncated"."""


class Decoded(NamedTuple):
    """A file's image as RGB, perhaps at reduced scale.

    `pixels` are [h, w, 3] uint8. `box` is the part of them that the image covers: at scale 1/s an image of 1001 x 751
    has the extent 1001/s x 751/s, while `pixels` has whole rows and columns. `height` and `width` are those of the full
    image as displayed, `mode` is Pillow's mode, and `remarks` are Pillow's warnings.
    """

    pixels: Pixels
    box: Box
    height: int
    width: int
    mode: str
    remarks: tuple[str, ...] = ()


def decode(content: bytes, max_pixels: int | None = MAX_PIXELS, sixteen_bit_max: int = SIXTEEN_BITS) -> Pixels:
    """Return a file's image as RGB.

    The array is [height, width, 3] uint8 and writable. The EXIF orientation is applied; transparent pixels are blended
    with white; grey, palette, 1-bit and CMYK images are converted (16-bit grey is scaled so that `sixteen_bit_max`
    becomes white); of an animation, the first frame is used. Raises DamagedImage for everything else.
    """
    return decode_reduced(content, 0, max_pixels, sixteen_bit_max).pixels


def decode_reduced(
    content: bytes, shorter: int, max_pixels: int | None = MAX_PIXELS, sixteen_bit_max: int = SIXTEEN_BITS
) -> Decoded:
    """Return a file's image as `decode` does, but a JPEG at 1/2, 1/4 or 1/8 of its scale if that is large enough.

    The scale is large enough if the shorter side keeps at least `shorter` pixels; 0 asks for the full scale. The JPEG
    decoder then transforms fewer coefficients of each block (libjpeg's DCT scaling), which takes a fraction of the
    time. It still reads every byte of the file, so damage is found as at full scale. Raises DamagedImage, also for an
    image of more than `max_pixels`; None means no limit.
    """
    if not content:
        raise DamagedImage("empty file")
    with pillow_remarks.collected() as remarks:
        try:
            decoded = _decoded(content, shorter, max_pixels, sixteen_bit_max)
        except DamagedImage:
            if (rest := unreadable.without_remarks(content)) is None:
                raise
            decoded = _decoded(rest, shorter, max_pixels, sixteen_bit_max)
    return decoded._replace(remarks=tuple(remarks))


def _decoded(content: bytes, shorter: int, max_pixels: int | None, sixteen_bit_max: int) -> Decoded:
    try:
        with Image.open(io.BytesIO(content), formats=_heif() if _is_heic(content) else FORMATS) as image:
            refuse_size(image.width, image.height, max_pixels)
            mode, (width, height) = image.mode, image.size
            reduced = image.draft(None, (shorter, shorter)) if shorter else None  # None: in full, or not a JPEG
            image.load()
            # Read after loading: PNG may store EXIF after the pixels, and Pillow rotates a TIFF while it loads it.
            pixels, orientation = _rgb(image, sixteen_bit_max), _orientation(image)
            if reduced is None:
                upright = _upright(pixels, orientation)
                height, width = upright.shape[:2]
                return Decoded(upright, (0, 0, width, height), height, width, mode)
            if orientation in _LYING:
                width, height = height, width
            return Decoded(
                _upright(pixels, orientation), _upright_box(reduced[1], image.size, orientation), height, width, mode
            )
    except (DamagedImage, MemoryError):
        raise
    except UnidentifiedImageError as error:
        named = unreadable.name_of(content)
        kind = f": it is {named}" if named else ""
        raise DamagedImage(f"not an image ({', '.join(FORMATS)}){kind}") from error
    # Pillow's readers raise almost anything on damaged bytes: OSError, SyntaxError, struct.error, IndexError, ...
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DamagedImage(TRUNCATED if "truncated" in reason.lower() else f"damaged: {reason}") from error


def pixels_of(image: Image.Image, sixteen_bit_max: int = SIXTEEN_BITS) -> Pixels:
    """Return an opened image as RGB, [height, width, 3] uint8, converted as `decode` converts it, at full scale.

    Raises DamagedImage if its pixels cannot be read or have no known range.
    """
    try:
        image.load()
        return _upright(_rgb(image, sixteen_bit_max), _orientation(image))
    except DamagedImage:
        raise
    except Exception as error:  # as in `_decoded`
        raise DamagedImage(" ".join(str(error).split()) or type(error).__name__) from error


def refuse_size(width: int, height: int, max_pixels: int | None) -> None:
    """Raise DamagedImage for an image of more than `max_pixels`; None means no limit."""
    if max_pixels is not None and width * height > max_pixels:
        raise DamagedImage(
            f"{width:,} x {height:,} pixels, {width * height / 1e6:,.0f} million, more than the limit of "
            f"{max_pixels / 1e6:,.0f} million (data.max_megapixels)"
        )


def _is_heic(content: bytes) -> bool:
    """Return whether a file is HEIC, by its first bytes. Apple's phones write it; Pillow alone cannot read it."""
    if content[4:8] != b"ftyp":
        return False
    brands = content[8 : min(int.from_bytes(content[:4]), 128)]
    return any(brand in brands for brand in _HEIC_BRANDS) and b"avif" not in brands


def _heif() -> tuple[str]:
    """Register pillow-heif with Pillow and return its format. Raises DamagedImage if pillow-heif is not installed."""
    try:
        import pillow_heif
    except ImportError as error:
        raise DamagedImage("HEIC, which needs `pip install 'adaptformer[heic]'`") from error
    pillow_heif.register_heif_opener()
    return ("HEIF",)


def _rgb(image: Image.Image, sixteen_bit_max: int) -> Pixels:
    """Return a loaded image's pixels as [height, width, 3] uint8, as they are stored."""
    if image.mode == "F":
        raise DamagedImage("floating-point pixels, whose range is unknown: save it as 8 or 16 bits")
    if image.mode.startswith("I"):
        return _from_sixteen_bits(np.asarray(image), sixteen_bit_max)
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        visible = image.convert("RGBA")
        white = Image.new("RGBA", visible.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, visible)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))  # saves a copy: 36 MB for 12 megapixels


def _from_sixteen_bits(grey: np.ndarray[Any, Any], largest: int) -> Pixels:
    """Scale [height, width] grey values of 0..`largest` to 0..255, rounded, in three equal channels.

    Values up to 65535 that exceed `largest` become 255.
    """
    if grey.min() < 0 or grey.max() > SIXTEEN_BITS:
        raise DamagedImage(
            f"grey values beyond 16 bits ({grey.min()} to {grey.max()}): save it as 8 or 16 bits without a sign"
        )
    scaled = (np.minimum(grey.astype(np.uint32), largest) * 255 + largest // 2) // largest
    eight_bits = scaled.astype(np.uint8)
    return np.repeat(eight_bits[..., np.newaxis], 3, axis=2)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    # Photos often have damaged EXIF and intact pixels: such an image counts as upright.
    except Exception:
        return 1


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Apply an EXIF orientation (1 to 8; anything else counts as upright)."""
    if orientation in _LYING:
        pixels = pixels.swapaxes(0, 1)
    if orientation in _LEFT_TO_RIGHT:
        pixels = pixels[:, ::-1]
    if orientation in _UPSIDE_DOWN:
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _upright_box(box: Box, size: tuple[int, int], orientation: int) -> Box:
    """Return the position of `box`, in an image of `size` (width, height), after `_upright`."""
    (left, top, right, bottom), (width, height) = box, size
    if orientation in _LYING:
        left, top, right, bottom, width, height = top, left, bottom, right, height, width
    if orientation in _LEFT_TO_RIGHT:
        left, right = width - right, width - left
    if orientation in _UPSIDE_DOWN:
        top, bottom = height - bottom, height - top
    return left, top, right, bottom
