"""Images of which some bytes are others: pixels, or a reason."""

from __future__ import annotations

import io

import numpy as np
from hostile import bytes_of, ends_well
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from adaptformer.data import decoding

NUMBERS = [b"\0", b"\xff", b"\xff\xff", b"\x7f\xff\xff\xff", b"\xff" * 4, b"\0" * 4, b"\x80\0\0\0", b"\0\0\0\x01",
           b"IDAT", b"iCCP", b"zTXt", b"eXIf", b"acTL", b"fcTL", b"\xff\xd8", b"\xff\xda", b"\xff\xe1\xff\xff",
    b"II*\0",
           b"VP8X", b"ANIM", b"\x2c\0\0\0\0\xff\xff\xff\xff\0", b"\x01\x00\x10\x00"]  # fmt: skip


def seeds() -> list[bytes]:
    """Return small images of all formats and kinds that are read."""
    generator = np.random.default_rng(0)
    rgb = Image.fromarray(generator.integers(0, 255, (24, 20, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "x" * 200, zip=True)
    made = []

    def save(image: Image.Image, form: str, **options: object) -> None:
        out = io.BytesIO()
        image.save(out, form, **options)
        made.append(out.getvalue())

    for form in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM"):
        save(rgb, form)
    save(rgb, "JPEG", progressive=True, exif=exif)
    save(rgb.convert("CMYK"), "JPEG")
    save(rgb.convert("RGBA"), "PNG", pnginfo=text)
    save(rgb.convert("P"), "PNG", transparency=0)
    save(Image.fromarray(generator.integers(0, 65535, (9, 9), dtype=np.uint16)), "PNG")
    save(rgb, "WEBP", lossless=True, exif=exif)
    for compression in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits", "group4"):
        save(rgb.convert("1") if compression == "group4" else rgb, "TIFF", compression=compression)
    save(rgb, "PNG", save_all=True, append_images=[rgb.rotate(90)])
    save(rgb.convert("P"), "GIF", save_all=True, append_images=[rgb.rotate(90).convert("P")])
    return made


@given(bytes_of(seeds(), NUMBERS), st.sampled_from([0, 0, 8, 64]))
def test_any_image_file_is_decoded_or_refused(content: bytes, shorter: int) -> None:
    def decoded() -> decoding.Decoded | None:
        try:
            return decoding.decode_reduced(content, shorter)
        except decoding.DamagedImage:
            return None

    found = ends_well(decoded)
    if isinstance(found, decoding.Decoded):
        assert found.pixels.dtype == np.uint8
        assert found.pixels.ndim == 3
        assert found.pixels.shape[2] == 3
