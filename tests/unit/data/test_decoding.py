import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from adaptformer.data.decoding import MAX_PIXELS, DamagedImage, decode, decode_reduced

A, B, C, D, E, F = ((i * 40, 255 - i * 40, i * 20) for i in range(6))
UPRIGHT = np.array([[A, B, C], [D, E, F]], np.uint8)


def saved(image: Image.Image, format_name: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format_name, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("orientation", "displayed"),
    [
        (1, [[A, B, C], [D, E, F]]),
        (2, [[C, B, A], [F, E, D]]),
        (3, [[F, E, D], [C, B, A]]),
        (4, [[D, E, F], [A, B, C]]),
        (5, [[A, D], [B, E], [C, F]]),
        (6, [[D, A], [E, B], [F, C]]),
        (7, [[F, C], [E, B], [D, A]]),
        (8, [[C, F], [B, E], [A, D]]),
        (99, [[A, B, C], [D, E, F]]),
    ],
)
@pytest.mark.parametrize("format_name", ["PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(orientation: int, displayed: list[list[Any]], format_name: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True, "exact": True} if format_name == "WEBP" else {}
    content = saved(Image.fromarray(UPRIGHT), format_name, exif=exif, **options)
    np.testing.assert_array_equal(decode(content), displayed)
    assert decode(content).flags.c_contiguous


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_counts_as_upright() -> None:
    content = saved(Image.fromarray(UPRIGHT), exif=b"Exif\0\0II*\0\xff\xff\xff\xff nonsense")
    np.testing.assert_array_equal(decode(content), UPRIGHT)


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    grey = np.array([[0, 257, 32768, 65535, 128, 129]], np.uint16)
    expected = [0, 1, 128, 255, 0, 1]
    for format_name in ("PNG", "TIFF", "PPM"):
        pixels = decode(saved(Image.fromarray(grey), format_name))
        assert pixels[0, :, 0].tolist() == expected, format_name
        assert pixels.shape == (1, 6, 3)


def test_integers_beyond_sixteen_bits_are_refused() -> None:
    with pytest.raises(DamagedImage, match="beyond 16 bits"):
        decode(saved(Image.fromarray(np.array([[70000]], np.int32)), "TIFF"))
    with pytest.raises(DamagedImage, match="beyond 16 bits"):
        decode(saved(Image.fromarray(np.array([[-1]], np.int32)), "TIFF"))


def test_floating_point_is_refused() -> None:
    with pytest.raises(DamagedImage, match="floating-point"):
        decode(saved(Image.fromarray(np.array([[0.5]], np.float32)), "TIFF"))


def test_alpha_is_laid_on_white() -> None:
    rgba = np.array([[[200, 100, 0, 255], [200, 100, 0, 0], [200, 100, 0, 128]]], np.uint8)
    opaque, clear, half = decode(saved(Image.fromarray(rgba)))[0]
    assert opaque.tolist() == [200, 100, 0]
    assert clear.tolist() == [255, 255, 255]
    np.testing.assert_allclose(half, np.array([200, 100, 0]) * 128 / 255 + 127, atol=1)


def test_grey_with_alpha_is_laid_on_white() -> None:
    image = Image.new("LA", (2, 1), (10, 255))
    image.putpixel((1, 0), (10, 0))
    assert decode(saved(image))[0].tolist() == [[10, 10, 10], [255, 255, 255]]


def palette() -> Image.Image:
    image = Image.new("P", (2, 1))
    image.putpalette([250, 0, 0, 0, 0, 250])
    image.putpixel((1, 0), 1)
    return image


@pytest.mark.parametrize("format_name", ["PNG", "GIF"])
def test_a_palette_image_has_its_colours(format_name: str) -> None:
    assert decode(saved(palette(), format_name))[0].tolist() == [[250, 0, 0], [0, 0, 250]]


@pytest.mark.parametrize("format_name", ["PNG", "GIF"])
def test_transparent_palette_entry_is_white(format_name: str) -> None:
    assert decode(saved(palette(), format_name, transparency=0))[0].tolist() == [[255, 255, 255], [0, 0, 250]]


def test_transparent_colour_of_rgb_is_white() -> None:
    content = saved(Image.fromarray(UPRIGHT), transparency=A)
    assert decode(content)[0].tolist() == [[255, 255, 255], list(B), list(C)]


def test_one_bit_and_grey() -> None:
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    assert decode(saved(image))[0].tolist() == [[0, 0, 0], [255, 255, 255]]
    assert decode(saved(Image.new("L", (1, 1), 77)))[0, 0].tolist() == [77, 77, 77]


def test_a_cmyk_jpeg_has_its_colours() -> None:
    content = saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100)
    np.testing.assert_allclose(decode(content)[8, 8], [255, 0, 0], atol=3)
    assert decode_reduced(content, 0).mode == "CMYK"


@pytest.mark.parametrize("format_name", ["GIF", "PNG", "WEBP", "TIFF"])
def test_first_frame_of_an_animation(format_name: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    options: dict[str, Any] = {"lossless": True} if format_name == "WEBP" else {}
    content = saved(frames[0], format_name, save_all=True, append_images=frames[1:], **options)
    assert decode(content)[4, 4].tolist() == [255, 0, 0]


def test_pixels_are_contiguous_and_writable(picture: Callable[..., bytes]) -> None:
    pixels = decode(picture())
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable


def test_an_empty_file_is_refused() -> None:
    with pytest.raises(DamagedImage, match=r"^empty file$"):
        decode(b"")


def test_a_file_that_is_no_image_is_refused() -> None:
    with pytest.raises(DamagedImage, match=r"^not an image"):
        decode(b"<html>404 Not Found</html>")


def test_other_formats_are_refused() -> None:
    # Pillow reads ICO and PDF-like formats through code that images from strangers should not reach.
    with pytest.raises(DamagedImage, match=r"^not an image"):
        decode(saved(Image.new("RGB", (16, 16)), "ICO"))


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM", "GIF"])
def test_a_truncated_file_is_refused(picture: Callable[..., bytes], format_name: str) -> None:
    content = picture(width=64, height=64, format=format_name)
    with pytest.raises(DamagedImage):
        decode(content[: len(content) // 2])


def test_a_truncated_file_is_called_truncated(picture: Callable[..., bytes]) -> None:
    content = picture(width=64, height=64, format="JPEG")
    with pytest.raises(DamagedImage, match=r"^truncated$"):
        decode(content[: len(content) // 2])


def test_damage_in_the_middle(picture: Callable[..., bytes]) -> None:
    content = bytearray(picture(width=64, height=64))
    content[len(content) // 2] ^= 0xFF
    with pytest.raises(DamagedImage):
        decode(bytes(content))


def bomb(width: int, height: int) -> bytes:
    """A PNG that says it is large and holds nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"x") + chunk(b"IEND", b"")


@pytest.mark.parametrize("sides", [(100_000, 100_000), (MAX_PIXELS // 1000 + 1, 1000)])
def test_bomb_is_refused_before_its_pixels_are_read(sides: tuple[int, int]) -> None:
    with pytest.raises(DamagedImage, match=r"pixels, .* million, more than the limit of 120 million"):
        decode(bomb(*sides))
    with pytest.raises(DamagedImage, match=r"truncated|damaged"):  # it is looked at if it may be that large
        decode(bomb(MAX_PIXELS // 1000 + 1, 1000), max_pixels=None)


@pytest.mark.parametrize("chunk", [b"zTXt", b"iTXt", b"iCCP", b"tEXt"])
def test_a_png_with_huge_or_damaged_remarks_is_whole(chunk: bytes) -> None:
    plain, texts = saved(Image.fromarray(UPRIGHT)), PngImagePlugin.PngInfo()
    if chunk == b"iCCP":
        content = saved(Image.fromarray(UPRIGHT), icc_profile=b"\0" * (3 << 20))
    elif chunk == b"tEXt":
        place = plain.index(b"IDAT") - 4
        content = plain[:place] + struct.pack(">I", 3) + b"tEXta\0b" + b"\0\0\0\0" + plain[place:]  # a wrong checksum
    else:
        (texts.add_itxt if chunk == b"iTXt" else texts.add_text)("parameters", "x" * (3 << 20), zip=True)
        content = saved(Image.fromarray(UPRIGHT), pnginfo=texts)
    assert chunk in content
    np.testing.assert_array_equal(decode(content), UPRIGHT)


def test_damage_of_the_pixels_of_a_png_stays_damage() -> None:
    content = bytearray(saved(Image.fromarray(UPRIGHT), icc_profile=b"\0" * (3 << 20)))
    content[content.index(b"IDAT") + 8] ^= 1
    with pytest.raises(DamagedImage):
        decode(bytes(content))


def tiff(samples: int, bits: int, kind: int) -> bytes:
    """A TIFF of 2 x 2 pixels of so many channels."""
    size = 4 * samples * bits // 8
    entries = [(256, 4, 1, 2), (257, 4, 1, 2), (258, 3, 1, bits), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 200),
               (277, 3, 1, samples), (278, 4, 1, 2), (279, 4, 1, size), (339, 3, 1, kind)]  # fmt: skip
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return (b"II*\0" + struct.pack("<IH", 8, len(entries)) + body).ljust(200, b"\0") + b"\1" * size


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "a pointer of Git LFS.*git lfs pull"),
        (b"<!DOCTYPE html><html><head><title>403 Forbidden", "a web page"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
        (b"\0" * 128 + b"DICM", "DICOM"), (b"%PDF-1.4", "a PDF"), (b"\xff\x0a" + b"1" * 50, "JPEG XL"),
        (b"\0" * 4000, "nothing but zeros"), (b"\x1f\x8b123", "compressed by gzip"),
        (tiff(13, 16, 1), "a TIFF of 13 channels of 16 bits, whole numbers"),
        (tiff(3, 32, 3), "a TIFF of 3 channels of 32 bits, floating-point numbers"),
    ],
)  # fmt: skip
def test_what_is_no_image_is_named_for_what_it_is(content: bytes, name: str) -> None:
    with pytest.raises(DamagedImage, match=rf"not an image .*: it is {name}"):
        decode(content)


def test_pillows_remarks_come_with_the_image_and_not_to_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    exif = b"Exif\0\0II*\0\xff\xff\xff\x7f"
    content = saved(Image.fromarray(UPRIGHT), "JPEG")
    content = content[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + content[2:]
    command = (
        "import sys; from adaptformer.data.decoding import *; print(decode_reduced(sys.stdin.buffer.read(), 0).remarks)"
    )
    done = subprocess.run([sys.executable, "-c", command], input=content, capture_output=True, check=True)
    assert b"Corrupt EXIF" in done.stdout
    assert not done.stderr
    assert decode_reduced(saved(Image.fromarray(UPRIGHT)), 0).remarks == ()
    with pytest.raises(DamagedImage):
        decode(tiff(13, 16, 1))
    assert capfd.readouterr() == ("", "")


def test_the_range_of_sixteen_bits_can_be_chosen() -> None:
    grey = np.array([[0, 1000, 2048, 4095, 5000]], np.uint16)
    content = saved(Image.fromarray(grey))
    assert decode(content)[0, :, 0].tolist() == [0, 4, 8, 16, 19]
    assert decode(content, sixteen_bit_max=4095)[0, :, 0].tolist() == [0, 62, 128, 255, 255]


def test_the_limit_of_pixels_can_be_chosen(picture: Callable[..., bytes]) -> None:
    assert decode(picture(), max_pixels=48).shape == (6, 8, 3)
    with pytest.raises(DamagedImage, match="8 x 6 pixels"):
        decode(picture(), max_pixels=47)


def test_a_few_bytes_cannot_name_very_many_pixels() -> None:
    gif = bytearray(saved(Image.new("P", (1, 1)), "GIF"))
    gif[6:10] = struct.pack("<HH", 13_000, 13_000)  # the canvas; its only frame stays small
    assert len(gif) < 100
    with pytest.raises(DamagedImage, match=r"13,000 x 13,000 pixels, 169 million"):
        decode(bytes(gif))


def test_memory_errors_are_no_damage(monkeypatch: pytest.MonkeyPatch, picture: Callable[..., bytes]) -> None:
    def exhausted(*args: Any, **kwargs: Any) -> None:
        raise MemoryError

    content = picture()
    monkeypatch.setattr(Image, "open", exhausted)
    with pytest.raises(MemoryError):
        decode(content)


def test_the_predictor_starts_without_heavy_imports() -> None:
    code = (
        "import sys, adaptformer.data.resizing; print([m for m in ('pandas', 'torch', 'pandera') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def waves(height: int, width: int) -> np.ndarray:
    """A photo's stand-in: every place looks different, and nothing changes within a few pixels."""
    y, x = np.mgrid[:height, :width]
    return np.stack([127 + 120 * np.sin(x / 37 + y / 91), 255 * x / width, 255 * y / height], axis=2).astype(np.uint8)


@pytest.mark.parametrize(
    ("shorter", "shape", "extent"),
    [
        (0, (751, 1001), (751, 1001)),
        (400, (751, 1001), (751, 1001)),  # half of 751 is less
        (375, (376, 501), (375.5, 500.5)),
        (187, (188, 251), (187.75, 250.25)),
        (1, (94, 126), (93.875, 125.125)),  # 1/8 is the least
    ],
)
def test_a_large_jpeg_is_decoded_at_a_scale_that_keeps_enough(
    shorter: int, shape: tuple[int, int], extent: tuple[float, float]
) -> None:
    decoded = decode_reduced(saved(Image.fromarray(waves(751, 1001)), "JPEG", quality=95), shorter)
    assert decoded.pixels.shape == (*shape, 3)
    assert decoded.box == (0, 0, extent[1], extent[0])
    assert (decoded.height, decoded.width, decoded.mode) == (751, 1001, "RGB")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_box_of_a_reduced_image_follows_its_orientation(orientation: int) -> None:
    # 1/8 of 1001 x 753 are 126 x 95 pixels whose last column and row are an eighth inside of the image.
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved(Image.fromarray(waves(753, 1001)), "JPEG", quality=95, exif=exif)
    whole, decoded = decode(content), decode_reduced(content, 90)
    assert (decoded.height, decoded.width) == whole.shape[:2]
    assert decoded.pixels.shape[:2] == ((126, 95) if orientation > 4 else (95, 126))
    left, top, right, bottom = decoded.box
    assert (right - left, bottom - top) == (whole.shape[1] / 8, whole.shape[0] / 8)
    reference = np.asarray(Image.fromarray(whole).resize((40, 40), Image.Resampling.BICUBIC)).astype(int)
    small = Image.fromarray(decoded.pixels).resize((40, 40), Image.Resampling.BICUBIC, box=decoded.box)
    inside = np.abs(np.asarray(small).astype(int) - reference)[1:-1, 1:-1]  # what lies beyond the edge is the encoder's
    assert inside.max() <= 3


@pytest.mark.parametrize("format_name", ["PNG", "BMP", "WEBP", "GIF", "TIFF", "PPM"])
def test_other_formats_are_decoded_in_full(format_name: str) -> None:
    content = saved(Image.fromarray(waves(64, 80)), format_name)
    decoded = decode_reduced(content, 4)
    np.testing.assert_array_equal(decoded.pixels, decode(content))
    assert decoded.box == (0, 0, 80, 64)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_that_is_small_enough_has_the_same_bytes(mode: str) -> None:
    content = saved(Image.fromarray(waves(64, 80)).convert(mode), "JPEG", quality=95)
    np.testing.assert_array_equal(decode_reduced(content, 33).pixels, decode(content))
    reduced = decode_reduced(content, 32).pixels
    assert reduced.shape == (32, 40, 3)
    assert np.abs(reduced.astype(int) - decode(content)[::2, ::2]).mean() < 8


def test_a_phones_photo_with_a_second_picture_is_decoded_at_a_reduced_scale() -> None:
    first = Image.fromarray(waves(64, 80))
    content = saved(first, "MPO", save_all=True, append_images=[Image.new("RGB", (20, 20))])
    assert decode_reduced(content, 32).pixels.shape == (32, 40, 3)
    assert decode(content).shape == (64, 80, 3)


def test_damage_is_found_at_reduced_scale() -> None:
    content = saved(Image.fromarray(waves(640, 800)), "JPEG", quality=95)
    with pytest.raises(DamagedImage, match="truncated"):
        decode_reduced(content[: int(0.9 * len(content))], 1)


def heic(image: Image.Image, **options: Any) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif", reason="install the extra: pip install 'adaptformer[heic]'")
    file = io.BytesIO()
    pillow_heif.from_pillow(image).save(file, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["HEIC", "AVIF"])
def test_photos_of_newer_phones_have_their_colours_and_lie_upright(kind: str) -> None:
    lying = Image.fromarray(waves(64, 96))
    exif = Image.Exif()
    exif[0x0112] = 6
    content = (
        heic(lying, quality=95, exif=exif.tobytes()) if kind == "HEIC" else saved(lying, "AVIF", quality=95, exif=exif)
    )
    decoded = decode_reduced(content, 4)
    assert (decoded.height, decoded.width) == decoded.pixels.shape[:2] == (96, 64)
    upright = np.rot90(waves(64, 96), -1)
    assert np.abs(decoded.pixels.astype(int) - upright).mean() < 4
    np.testing.assert_array_equal(decode(content), decoded.pixels)


@pytest.mark.parametrize("kind", ["HEIC", "AVIF"])
def test_what_is_transparent_in_them_is_white(kind: str) -> None:
    pixels = np.full((32, 32, 4), (200, 30, 60, 255), np.uint8)
    pixels[:, 16:, 3] = 0
    image = Image.fromarray(pixels)
    decoded = decode(heic(image, quality=95) if kind == "HEIC" else saved(image, "AVIF", quality=95))
    assert np.abs(decoded[:, :12].astype(int) - (200, 30, 60)).max() < 12
    assert decoded[:, 20:].min() > 243


@pytest.mark.parametrize("kind", ["HEIC", "AVIF"])
def test_half_of_such_a_file_is_damaged(kind: str) -> None:
    image = Image.fromarray(waves(200, 200))
    content = heic(image) if kind == "HEIC" else saved(image, "AVIF")
    with pytest.raises(DamagedImage):
        decode(content[: len(content) // 2])


def test_without_its_reader_heic_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    content = heic(Image.new("RGB", (32, 32)))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(DamagedImage, match=r"^HEIC, which needs `pip install 'adaptformer\[heic\]'`"):
        decode(content)


def test_avif_needs_no_other_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert decode(saved(Image.new("RGB", (32, 32), (9, 9, 9)), "AVIF")).shape == (32, 32, 3)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_picture_of_a_hundred_megapixels_is_read() -> None:
    file = io.BytesIO()
    Image.new("L", (10_000, 10_000), 77).save(file, "PNG", compress_level=1)
    decoded = decode(file.getvalue())
    assert decoded.shape == (10_000, 10_000, 3)
    assert (decoded[::999, ::999] == 77).all()
