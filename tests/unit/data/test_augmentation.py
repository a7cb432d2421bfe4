from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from adaptformer.data import augmentation, resizing
from adaptformer.data.preprocessing import ImageContract
from adaptformer.model.torchvision_ops import import_torchvision

import_torchvision()
from torchvision.transforms import InterpolationMode, RandomResizedCrop  # noqa: E402
from torchvision.transforms.functional import resized_crop  # noqa: E402

PHOTO = (375, 500)
PUBLISHED = ((0.08, 1.0), (0.75, 4 / 3))


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def boxes(
    n: int = 3000,
    shape: tuple[int, int] = PHOTO,
    scale: tuple[float, float] = (0.3, 0.8),
    ratio: tuple[float, float] = (0.5, 2.0),
    flip: bool = False,
    key: tuple[int, ...] = (0, 1),
) -> Tensor:
    return augmentation.random_boxes(np.tile(shape, (n, 1)), scale, ratio, flip, *key)


@pytest.mark.parametrize("shape", [PHOTO, (500, 375), (100, 300), (1, 3), (1, 1)])
def test_boxes_lie_within_the_image(shape: tuple[int, int]) -> None:
    top, left, height, width, _ = boxes(shape=shape, scale=(0.08, 1.0)).unbind(1)
    assert min(height.min(), width.min()) >= 1
    assert (top.min(), left.min()) == (0, 0)
    assert ((top + height).max(), (left + width).max()) == shape


@pytest.mark.parametrize(
    ("shape", "scale", "ratio"),
    [
        (PHOTO, *PUBLISHED),
        ((500, 375), *PUBLISHED),
        ((60, 180), *PUBLISHED),
        (PHOTO, (0.1, 0.2), (0.4, 0.8)),
        (PHOTO, (0.8, 1.0), (1.0, 1.0)),  # often the fallback
    ],
)
def test_boxes_are_distributed_as_torchvisions(
    shape: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float]
) -> None:
    torch.manual_seed(0)
    image = torch.empty(3, *shape)
    published = torch.tensor([RandomResizedCrop.get_params(image, list(scale), list(ratio)) for _ in range(4000)])
    ours = boxes(40_000, shape, scale, ratio)[:, :4]
    evenly = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
    for measure in (
        lambda box: box[:, 2] * box[:, 3] / (shape[0] * shape[1]),
        lambda box: (box[:, 3] / box[:, 2]).log(),
        lambda box: box[:, 0] / shape[0],
        lambda box: box[:, 1] / shape[1],
    ):
        ours_at, published_at = (measure(drawn.double()).quantile(evenly) for drawn in (ours, published))
        torch.testing.assert_close(ours_at, published_at, atol=0.03, rtol=0)


@pytest.mark.parametrize("shape", [PHOTO, (500, 375), (60, 180), (180, 60), (64, 64), (101, 37)])
@pytest.mark.parametrize("ratio", [(3.0, 4.0), (0.2, 0.25), (1.0, 1.0), (0.75, 4 / 3), (2.0, 2.0)])
def test_where_no_box_fits_it_is_torchvisions_fallback(shape: tuple[int, int], ratio: tuple[float, float]) -> None:
    # A share above 1 never fits.
    expected = RandomResizedCrop.get_params(torch.empty(3, *shape), [1.5, 1.5], list(ratio))
    assert boxes(3, shape, (1.5, 1.5), ratio).tolist() == [[*expected, 0]] * 3


def test_the_whole_area_of_a_square_is_the_whole_square() -> None:
    assert boxes(2, (32, 32), (1.0, 1.0), (1.0, 1.0)).tolist() == [[0, 0, 32, 32, 0]] * 2


def test_the_corners_of_a_photo_are_seen() -> None:
    # The centre square of 375 pixels, from which crops were once taken, ends 62 pixels before either end.
    top, left, height, width, _ = boxes(300, PHOTO, *PUBLISHED).unbind(1)
    for row in (10, 365):
        for column in (10, 490):
            seen = (top <= row) & (row < top + height) & (left <= column) & (column < left + width)
            assert seen.any()


def test_each_draw_is_made_in_the_pixels_of_its_own_image() -> None:
    shapes = np.array([[10, 40], [400, 300], [32, 32]])
    top, left, height, width, _ = augmentation.random_boxes(np.tile(shapes, (500, 1)), *PUBLISHED, False, 0).unbind(1)
    for row, (tall, wide) in enumerate(shapes):
        assert (top + height)[row::3].max() == tall
        assert (left + width)[row::3].max() == wide


def test_a_flip_mirrors_half_of_the_images_and_changes_nothing_else() -> None:
    plain, flipped = boxes(4000), boxes(4000, flip=True)
    assert torch.equal(flipped[:, :4], plain[:, :4])
    assert not plain[:, 4].any()
    assert set(flipped[:, 4].tolist()) == {0, 1}
    assert flipped[:, 4].double().mean().item() == pytest.approx(0.5, abs=0.03)


def test_a_box_depends_on_key_and_draw_alone() -> None:
    first = boxes(5, flip=True, key=(0, 1, 2))
    torch.manual_seed(99)
    assert torch.equal(boxes(5, flip=True, key=(0, 1, 2)), first)
    assert torch.equal(boxes(3, flip=True, key=(0, 1, 2)), first[:3])
    for other in ((1, 1, 2), (0, 2, 2), (0, 1, 3)):
        assert not torch.equal(boxes(5, flip=True, key=other), first)
    assert len({tuple(box) for box in first.tolist()}) == 5


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_the_box_of_a_whole_square_returns_it(interpolation: str) -> None:
    images = [noise(8, 8, seed) for seed in range(2)]
    cropped = augmentation.crop(images, torch.tensor([[0, 0, 8, 8, 0]] * 2), 8, interpolation)
    np.testing.assert_array_equal(cropped, np.stack(images))


def test_an_enlarged_square_has_the_pixels_that_sampling_on_a_grid_gave() -> None:
    # Until photos kept their aspect, crops were sampled from the square by grid_sample.
    square = torch.from_numpy(noise(32, 32))
    grid = F.affine_grid(torch.eye(2, 3)[None], [1, 3, 56, 56], align_corners=False)
    before = F.grid_sample(square.permute(2, 0, 1)[None].float(), grid, padding_mode="border", align_corners=False)
    now = augmentation.crop([square.numpy()], torch.tensor([[0, 0, 32, 32, 0]]), 56, "bilinear")
    torch.testing.assert_close(augmentation.planes(now), before, atol=1.5, rtol=0)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_mirrored_boxes_are_flipped_sideways(interpolation: str) -> None:
    box, image = [3, 1, 7, 11, 0], noise(12, 17)
    upright, mirrored = (
        augmentation.crop([image], torch.tensor([[*box[:4], flip]]), 6, interpolation)[0] for flip in (0, 1)
    )
    np.testing.assert_array_equal(mirrored, upright.numpy()[:, ::-1])
    assert not torch.equal(mirrored, upright)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_batch_of_mixed_shapes_is_cropped_as_torchvision_crops_each_image(interpolation: str) -> None:
    images = [noise(*shape, seed) for seed, shape in enumerate([(60, 90), (90, 60), (7, 7), (50, 150), (1, 3)])]
    chosen = augmentation.random_boxes(np.array([image.shape[:2] for image in images]), *PUBLISHED, False, 1)
    cropped = augmentation.crop(images, chosen, 24, interpolation)
    for image, box, found in zip(images, chosen.tolist(), cropped, strict=True):
        expected = resized_crop(Image.fromarray(image), *box[:4], [24, 24], InterpolationMode(interpolation))
        np.testing.assert_allclose(found.int(), np.array(expected, int), atol=1)
    for threads in (2, 8):
        torch.set_num_threads(threads)
        assert torch.equal(augmentation.crop(images, chosen, 24, interpolation), cropped)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_crop_is_resized_by_the_filter_that_evaluation_uses(interpolation: str, contract: ImageContract) -> None:
    image = noise(64, 64)
    shrunk = augmentation.crop([image], torch.tensor([[0, 0, 64, 64, 0]]), 16, interpolation)[0]
    square = resizing.to_square(image, dataclasses.replace(contract, size=16, interpolation=interpolation))
    np.testing.assert_allclose(shrunk.int(), square.astype(int), atol=1)


def test_shrinking_is_antialiased() -> None:
    # Without a wide filter the fine stripes would come out as some of black and white.
    stripes = np.zeros((96, 96, 3), np.uint8)
    stripes[:, ::2] = 255
    shrunk = augmentation.crop([stripes], torch.tensor([[0, 0, 96, 96, 0]]), 22, "bicubic")[0].int()
    assert (shrunk[:, 1:-1] - 127).abs().max() < 20


def test_bicubic_overshoot_is_cut_to_the_range_of_bytes() -> None:
    edge = np.zeros((8, 8, 3), np.uint8)
    edge[:, 4:] = 255
    cropped = augmentation.crop([edge], torch.tensor([[0, 0, 8, 8, 0]]), 29, "bicubic")
    assert (cropped.min().item(), cropped.max().item()) == (0, 255)
    assert (cropped[0, :, :10] == 0).all()


def test_a_fault_in_a_thread_is_raised() -> None:
    torch.set_num_threads(2)
    with pytest.raises(ValueError, match="Anti-alias"):
        augmentation.crop([noise(8, 8)] * 2, torch.tensor([[0, 0, 8, 8, 0]] * 2), 4, "trilinear")


@pytest.mark.parametrize(("side", "size"), [(9, 6), (8, 8), (10, 7)])
def test_the_centre_is_the_one_that_the_predictor_sees(side: int, size: int) -> None:
    images = np.stack([noise(side, side, seed) for seed in range(2)])
    centre = augmentation.centre_crop(torch.from_numpy(images), size)
    expected = resizing.centre_crop(images, size)
    np.testing.assert_array_equal(centre.permute(0, 2, 3, 1).numpy(), expected)
    assert centre.dtype == torch.float32


def test_normalising_scales_each_channel() -> None:
    image = torch.tensor([255.0, 51.0, 0.0]).view(1, 3, 1, 1)
    given = augmentation.normalise(image, torch.tensor([0.5, 0.1, 0.2]), torch.tensor([0.25, 0.5, 0.1]))
    torch.testing.assert_close(given.flatten(), torch.tensor([2.0, 0.2, -2.0]))
