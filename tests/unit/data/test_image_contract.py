"""Files of every kind: the cache, training, evaluation and the predictor see the same pixels of each."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from adaptformer.data import manifest, resizing
from adaptformer.data.cache import ImageCache, load_images
from adaptformer.data.labelled import Crops, DataSet
from adaptformer.data.preprocessing import ImageContract
from adaptformer.model import inference

SIDE = 24
CONTRACT = ImageContract(SIDE, "crop", 0.75, "bicubic", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 2)


def scene(height: int = 90, width: int = 140) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([127 + 120 * np.sin(x / 9 + y / 14), 255 * x / width, 255 * y / height], axis=2).astype(np.uint8)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(Image.fromarray(scene()), "JPEG", exif=exif, quality=90)


def with_alpha() -> Image.Image:
    alpha = np.full((90, 140, 1), 255, np.uint8)
    alpha[20:50, 30:80] = 100
    return Image.fromarray(np.concatenate([scene(), alpha], axis=2))


def heic() -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif", reason="install the extra: pip install 'adaptformer[heic]'")
    file = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(scene())).save(file, quality=90)
    return file.getvalue()


KINDS: dict[str, Callable[[], bytes]] = {
    **{
        f"JPEG turned {orientation}": lambda orientation=orientation: turned(orientation) for orientation in range(1, 9)
    },
    "large JPEG": lambda: saved(Image.fromarray(scene(900, 1400)), "JPEG", quality=90),
    "JPEG of CMYK": lambda: saved(Image.fromarray(scene()).convert("CMYK"), "JPEG", quality=90),
    "PNG with alpha": lambda: saved(with_alpha(), "PNG"),
    "PNG with a palette": lambda: saved(Image.fromarray(scene()).quantize(16), "PNG"),
    "PNG of 16 bits": lambda: saved(Image.fromarray(scene()[..., 0].astype(np.uint16) * 257), "PNG"),
    "PNG of 1 bit": lambda: saved(Image.fromarray(scene()).convert("1"), "PNG"),
    "GIF that moves": lambda: saved(
        Image.fromarray(scene()), "GIF", save_all=True, append_images=[Image.new("RGB", (140, 90))]
    ),
    "WebP with alpha": lambda: saved(with_alpha(), "WEBP", quality=90),
    "TIFF of 16 bits": lambda: saved(Image.fromarray(scene()[..., 1].astype(np.uint16) * 257), "TIFF"),
    "BMP": lambda: saved(Image.fromarray(scene()), "BMP"),
    "AVIF": lambda: saved(Image.fromarray(scene()), "AVIF", quality=90),
    "HEIC": heic,
    "smaller than the model's side": lambda: saved(Image.fromarray(scene(9, 14)), "PNG"),
    "a strip": lambda: saved(Image.fromarray(scene(4, 600)), "PNG"),
}
IN_COLOUR = {
    "JPEG turned 1",
    "large JPEG",
    "PNG with alpha",
    "GIF that moves",
    "WebP with alpha",
    "BMP",
    "AVIF",
    "HEIC",
}


@pytest.fixture(params=KINDS)
def data(request: pytest.FixtureRequest, tree: Callable[..., Path]) -> Path:
    """Data whose images are all of one file."""
    content = KINDS[request.param]()
    return tree({f"{split}/{label}/image": content for split in ("train", "test") for label in ("amber", "blue")})


def test_all_that_read_an_image_see_the_same_pixels(data: Path, tmp_path: Path) -> None:
    # The predictor reads a file by this function, and each call decodes.
    of_predictor = resizing.prepare((data / "test/amber/image").read_bytes(), CONTRACT)
    table, faults = manifest.scan(data, manifest.ValidationShare(0.5, 0))
    assert faults.empty
    cache, nothing_kept = ImageCache(tmp_path / "cache", None), ImageCache(tmp_path / "none", 0)
    seen = {}
    for name, store in {"decoded": cache, "cached": cache, "streamed": nothing_kept}.items():
        stored = load_images(manifest.rows(table, "test"), data, CONTRACT, store)[:1]
        (batch,) = inference.prepared(stored, np.array([0]), CONTRACT, batch_size=1, device=torch.device("cpu"))
        seen[f"evaluation, {name}"] = (255 * batch[0]).permute(1, 2, 0).numpy()
    # Without random crops training reads the same squares.
    photos = DataSet(table, ["amber", "blue"], data, CONTRACT, cache).photos(Crops((1, 1), (1, 1)))
    seen["training"] = resizing.centre_crop(photos[0], SIDE)
    for name, pixels in seen.items():
        np.testing.assert_array_equal(np.rint(pixels), of_predictor, name)


def test_pixels_everywhere_are_those_of_the_picture(data: Path, request: pytest.FixtureRequest) -> None:
    kind = str(request.node.callspec.params["data"])
    pixels = resizing.prepare((data / "test/amber/image").read_bytes(), CONTRACT).astype(int)
    assert pixels.shape == (SIDE, SIDE, 3)
    if kind in {
        "JPEG turned 1",
        "large JPEG",
        "PNG with alpha",
        "GIF that moves",
        "WebP with alpha",
        "BMP",
        "AVIF",
        "HEIC",
    }:
        assert pixels[2, -3, 1] > pixels[2, 2, 1] + 60, "green grows to the right"
        assert pixels[-3, 2, 2] > pixels[2, 2, 2] + 60, "blue grows downwards"
    if kind == "JPEG turned 3":
        assert pixels[2, 2, 1] > pixels[2, -3, 1] + 60
    if kind == "JPEG turned 6":
        assert pixels[-3, 2, 1] > pixels[2, 2, 1] + 60, "what grew to the right grows downwards"
    if "16 bits" in kind or "1 bit" in kind:
        assert (pixels[..., 0] == pixels[..., 2]).all()
        assert pixels[..., 0].std() > 20
