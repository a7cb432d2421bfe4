from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from adaptformer.data import augmentation, resizing

IDENTITY = torch.tensor([[0.0, 0.0, 1.0, 1.0]])


def noise(count: int, side: int) -> Tensor:
    return torch.randint(0, 256, (count, side, side, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def boxes(n: int = 2000, scale: tuple[float, float] = (0.3, 0.8), ratio: tuple[float, float] = (0.5, 2.0)) -> Tensor:
    return augmentation.random_boxes(n, scale, ratio, False, 0, 1).double()


def test_boxes_lie_within_the_image() -> None:
    x, y, half_width, half_height = boxes().unbind(1)
    assert (half_width > 0).all()
    assert (half_height > 0).all()
    assert (x.abs() + half_width <= 1 + 1e-6).all()
    assert (y.abs() + half_height <= 1 + 1e-6).all()
    assert x.min() < -0.2  # and use its whole breadth, towards either side
    assert x.max() > 0.2
    assert y.min() < -0.2
    assert y.max() > 0.2


def test_area_and_ratio_keep_their_bounds() -> None:
    _, _, width, height = boxes(ratio=(0.75, 2.0)).unbind(1)
    area, ratio = width * height, width / height
    assert area.min() > 0.3 - 1e-6
    assert area.max() < 0.8 + 1e-6
    assert 0.75 - 1e-6 < ratio.min() < 0.8
    assert 1.8 < ratio.max() < 2.0 + 1e-6


def test_where_every_box_fits_area_and_logarithm_of_the_ratio_are_uniform() -> None:
    _, _, width, height = boxes(20_000, (0.1, 0.2), (0.5, 2.0)).unbind(1)
    evenly = torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9], dtype=torch.float64)
    torch.testing.assert_close((width * height).quantile(evenly), 0.1 + 0.1 * evenly, atol=2e-3, rtol=0)
    low, high = math.log(0.5), math.log(2.0)
    torch.testing.assert_close((width / height).log().quantile(evenly), low + (high - low) * evenly, atol=0.03, rtol=0)


@pytest.mark.parametrize(("ratio", "sides"), [((3.0, 4.0), (1.0, 1 / 3)), ((0.2, 0.25), (0.25, 1.0))])
def test_where_no_box_fits_it_is_the_largest_centred_one(
    ratio: tuple[float, float], sides: tuple[float, float]
) -> None:
    torch.testing.assert_close(boxes(5, (1.0, 1.0), ratio)[0], torch.tensor([0, 0, *sides], dtype=torch.float64))


def test_a_flip_mirrors_half_of_the_images_and_changes_nothing_else() -> None:
    plain = augmentation.random_boxes(4000, (0.3, 1.0), (0.8, 1.25), False, 3)
    flipped = augmentation.random_boxes(4000, (0.3, 1.0), (0.8, 1.25), True, 3)
    assert torch.equal(flipped[:, [0, 1, 3]], plain[:, [0, 1, 3]])
    assert torch.equal(flipped[:, 2].abs(), plain[:, 2])
    assert (flipped[:, 2] < 0).double().mean().item() == pytest.approx(0.5, abs=0.03)


def test_a_box_depends_on_key_and_image_alone() -> None:
    first = augmentation.random_boxes(5, (0.3, 1.0), (0.8, 1.25), True, 0, 1, 2)
    torch.manual_seed(99)
    assert torch.equal(augmentation.random_boxes(5, (0.3, 1.0), (0.8, 1.25), True, 0, 1, 2), first)
    assert torch.equal(augmentation.random_boxes(3, (0.3, 1.0), (0.8, 1.25), True, 0, 1, 2), first[:3])
    for other in ((1, 1, 2), (0, 2, 2), (0, 1, 3)):
        assert not torch.equal(augmentation.random_boxes(5, (0.3, 1.0), (0.8, 1.25), True, *other), first)
    assert len({tuple(box) for box in first.tolist()}) == 5


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_the_box_of_the_whole_image_returns_it(interpolation: str) -> None:
    images = noise(2, 8)
    cropped = augmentation.crop(images, IDENTITY.expand(2, -1), 8, interpolation)
    torch.testing.assert_close(cropped, images.permute(0, 3, 1, 2).float(), atol=1e-2, rtol=0)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_negative_half_width_mirrors(interpolation: str) -> None:
    images = noise(1, 9)
    box = torch.tensor([[0.1, -0.2, 0.7, 0.6]])
    mirrored = box * torch.tensor([1, 1, -1, 1])
    torch.testing.assert_close(
        augmentation.crop(images, mirrored, 6, interpolation),
        augmentation.crop(images, box, 6, interpolation).flip(3),
        atol=1e-2,
        rtol=0,
    )


def linear(distance: float) -> float:
    return max(0.0, 1 - abs(distance))


def cubic(distance: float, a: float = -0.75) -> float:
    d = abs(distance)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * (d**3 - 5 * d**2 + 8 * d - 4) if d < 2 else 0.0


def sampled(image: np.ndarray, box: list[float], size: int, kernel: object) -> np.ndarray:
    """One image, one output pixel at a time: the weighted pixels around its place, the border's repeated outwards."""
    side = len(image)
    x, y, half_width, half_height = box
    result = np.zeros((size, size, 3))
    for row in range(size):
        for column in range(size):
            across = (x + half_width * ((2 * column + 1) / size - 1) + 1) * side / 2 - 0.5
            down = (y + half_height * ((2 * row + 1) / size - 1) + 1) * side / 2 - 0.5
            for i in range(math.floor(down) - 1, math.floor(down) + 3):
                for j in range(math.floor(across) - 1, math.floor(across) + 3):
                    pixel = image[min(max(i, 0), side - 1), min(max(j, 0), side - 1)].astype(float)
                    result[row, column] += kernel(down - i) * kernel(across - j) * pixel
    return result.clip(0, 255)


@pytest.mark.parametrize(("interpolation", "kernel"), [("bilinear", linear), ("bicubic", cubic)])
def test_a_batch_is_cropped_as_each_image_would_be_alone(interpolation: str, kernel: object) -> None:
    images = noise(4, 7)
    chosen = augmentation.random_boxes(4, (0.2, 1.0), (0.5, 2.0), True, 1)
    cropped = augmentation.crop(images, chosen, 5, interpolation)
    expected = [sampled(image, box, 5, kernel) for image, box in zip(images.numpy(), chosen.tolist(), strict=True)]
    np.testing.assert_allclose(cropped.permute(0, 2, 3, 1).numpy(), np.stack(expected), atol=0.02)
    assert cropped.dtype == torch.float32


def test_bicubic_overshoot_is_cut_to_the_range_of_bytes() -> None:
    edge = torch.zeros(1, 8, 8, 3, dtype=torch.uint8)
    edge[:, :, 4:] = 255
    cropped = augmentation.crop(edge, IDENTITY, 29, "bicubic")
    assert (cropped.min().item(), cropped.max().item()) == (0.0, 255.0)


@pytest.mark.parametrize(("side", "size"), [(9, 6), (8, 8), (10, 7)])
def test_the_centre_is_the_one_that_the_predictor_sees(side: int, size: int) -> None:
    images = noise(2, side)
    centre = augmentation.centre_crop(images, size)
    expected = resizing.centre_crop(images.numpy(), size)
    np.testing.assert_array_equal(centre.permute(0, 2, 3, 1).numpy(), expected)
    assert centre.dtype == torch.float32


def test_normalising_scales_each_channel() -> None:
    image = torch.tensor([255.0, 51.0, 0.0]).view(1, 3, 1, 1)
    given = augmentation.normalise(image, torch.tensor([0.5, 0.1, 0.2]), torch.tensor([0.25, 0.5, 0.1]))
    torch.testing.assert_close(given.flatten(), torch.tensor([2.0, 0.2, -2.0]))
