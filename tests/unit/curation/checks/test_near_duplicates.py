"""The same photo again, in pictures of random shapes."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps
from sklearn.datasets import load_digits

from adaptformer.curation.checks import near_duplicates
from adaptformer.data import image_facts
from adaptformer.data.image_facts import small_picture

BICUBIC = Image.Resampling.BICUBIC


def scene(seed: int, side: int = 96) -> Image.Image:
    """A picture of ellipses and lines in random places and colours, which no other seed gives."""
    random = np.random.default_rng(seed)
    image = Image.new("RGB", (side, side), tuple(random.integers(0, 256, 3).tolist()))
    draw = ImageDraw.Draw(image)
    for _ in range(14):
        left, top, width, height = random.integers(-10, side, 2).tolist() + random.integers(8, 50, 2).tolist()
        colour = tuple(random.integers(0, 256, 3).tolist())
        draw.ellipse((left, top, left + width, top + height), fill=colour)
        draw.line(random.integers(0, side, 4).tolist(), fill=colour, width=3)
    return image


def compressed(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=50)
    return Image.open(file).convert("RGB")


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "resized": lambda image: image.resize((64, 64), BICUBIC),
    "another shape": lambda image: image.resize((120, 80), BICUBIC),
    "compressed": compressed,
    "mirrored": ImageOps.mirror,
    "cropped": lambda image: image.crop((8, 2, 94, 88)),
    "turned": lambda image: image.rotate(12, BICUBIC),
    "turned back and mirrored": lambda image: ImageOps.mirror(image.rotate(-8, BICUBIC)),
    "stretched": lambda image: image.resize((114, 96), BICUBIC).crop((9, 0, 105, 96)),
    "darker, less contrast": lambda image: image.point(lambda value: int(40 + 0.6 * value)),
}


def found(images: list[Image.Image]) -> list[tuple[int, int]]:
    pictures = np.stack([small_picture(np.asarray(image)) for image in images])
    return [(int(first), int(second)) for first, second in near_duplicates.pairs(pictures)]


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_copy_is_found_among_other_pictures(change: Callable[[Image.Image], Image.Image]) -> None:
    images = [scene(seed) for seed in range(12)]
    assert found(images) == []
    assert found([change(images[7]), *images, change(images[3])]) == [(0, 8), (4, 13)]


def test_another_picture_of_the_same_layout_is_none() -> None:
    """What is alike at a glance is not the same where its details differ."""

    def dotted(seed: int) -> Image.Image:
        image = Image.linear_gradient("L").resize((96, 96)).convert("RGB")
        draw = ImageDraw.Draw(image)
        for x, y in np.random.default_rng(seed).integers(4, 88, (12, 2)).tolist():
            draw.ellipse((x, y, x + 5, y + 5), fill=(128, 128, 128))
        return image

    assert found([dotted(1), dotted(2)]) == []
    assert found([dotted(1), compressed(dotted(1))]) == [(0, 1)]


def test_pictures_of_nothing_are_no_duplicates_of_each_other() -> None:
    assert found([Image.new("RGB", (40, 40), (level, level, level)) for level in (0, 100, 200)]) == []
    assert found([scene(1)]) == []


def test_where_all_pictures_are_alike_only_copies_are_found() -> None:
    """Digits can be laid over each other almost as well as copies can: what chance gives there is no sign."""
    digits = load_digits().images[:150]
    images = [Image.fromarray(np.kron(digit * 15, np.ones((4, 4))).astype(np.uint8)).convert("RGB") for digit in digits]
    assert found([*images, images[11].resize((48, 48), BICUBIC)]) == [(11, 150)]


def test_pictures_come_in_the_order_that_is_asked_for() -> None:
    gathered = near_duplicates.Pictures()
    for name, level in (("b", 10), ("a", 200)):
        gathered(name, np.full((image_facts.SIDE, image_facts.SIDE, 3), level, np.uint8))
    assert gathered.of(["a", "b"])[:, 0, 0, 0].tolist() == [200, 10]
    assert gathered.of(["a"]).shape == (1, image_facts.SIDE, image_facts.SIDE, 3)
