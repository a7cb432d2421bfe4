"""Random crops from whole photos against random crops from evaluation's square: `python benchmarks/crops.py`.

Makes photos of 500 x 375 pixels (smooth random images, JPEG), stores them both ways, and prints one Markdown table: the
share of a photo that training sees, bytes of a cached image, and images per second of CPU time, on one thread, for
filling the cache and for preparing batches of 224 pixels with the published crops. Only ratios are comparable between
machines, not seconds.
"""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from adaptformer.base import text_table
from adaptformer.data import augmentation, train_images
from adaptformer.data.decoding import decode
from adaptformer.data.preprocessing import ImageContract
from adaptformer.data.resizing import to_square
from adaptformer.data.train_images import Photos

CONTRACT = ImageContract(224, "crop", 0.875, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
HEIGHT, WIDTH = 375, 500
SCALE, RATIO = (0.08, 1.0), (0.75, 4 / 3)
PHOTOS, BATCH, REPEATS, DRAWS = 128, 64, 7, 2000


def jpeg(seed: int) -> bytes:
    """Return a smooth random photo of 500 x 375 pixels as JPEG."""
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


def crops_of_squares(squares: np.ndarray, first: int) -> torch.Tensor:
    """Return a batch as earlier versions made it: sampled by grid_sample from squares, without antialiasing."""
    images = torch.from_numpy(squares[first : first + BATCH])
    boxes = augmentation.random_boxes(np.full((BATCH, 2), squares.shape[1]), SCALE, RATIO, True, first).float()
    top, left, height, width, mirrored = (boxes / torch.tensor([*(squares.shape[1:2] * 4), 1])).unbind(1)
    zero = torch.zeros_like(top)
    across = width * (1 - 2 * mirrored)
    theta = torch.stack([across, zero, 2 * left + width - 1, zero, height, 2 * top + height - 1], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(theta, [BATCH, 3, CONTRACT.size, CONTRACT.size], align_corners=False)
    sampled = F.grid_sample(
        augmentation.planes(images), grid, mode="bicubic", padding_mode="border", align_corners=False
    )
    return normalised(sampled.clamp(0, 255))


def crops_of_photos(kept: Photos, first: int) -> torch.Tensor:
    """Return a batch as training makes it."""
    indices = range(first, first + BATCH)
    boxes = augmentation.random_boxes(kept.shapes[first : first + BATCH], SCALE, RATIO, True, first)
    cropped = augmentation.crop([kept[i] for i in indices], boxes, CONTRACT.size, CONTRACT.interpolation)
    return normalised(augmentation.planes(cropped))


def normalised(planes: torch.Tensor) -> torch.Tensor:
    """Return planes normalised as the model needs them."""
    return augmentation.normalise(planes, torch.tensor(CONTRACT.mean), torch.tensor(CONTRACT.std))


def seen(shape: tuple[int, int]) -> float:
    """Return the share of an image's pixels that are in at least one of many random crops."""
    covered = np.zeros(shape, bool)
    for top, left, height, width, _ in augmentation.random_boxes(
        np.tile(shape, (DRAWS, 1)), SCALE, RATIO, False, 0
    ).tolist():
        covered[top : top + height, left : left + width] = True
    return float(covered.mean())


def per_second(images: int, work: Callable[[], object]) -> float:
    """Return images per second of CPU time: the median of several runs after a warm-up run."""
    work()
    seconds = []
    for _ in range(REPEATS):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return images / statistics.median(seconds)


def main() -> None:
    """Measure and print the table."""
    torch.set_num_threads(1)
    files = [jpeg(seed) for seed in range(PHOTOS)]
    ((height, width),) = train_images.stored_shapes(np.array([HEIGHT]), np.array([WIDTH]), CONTRACT, SCALE[0]).tolist()

    def fill_squares() -> np.ndarray:
        return np.stack([to_square(decode(content), CONTRACT) for content in files])

    def fill_photos() -> np.ndarray:
        return np.stack([train_images.to_photo(decode(content), (height, width), CONTRACT) for content in files])

    squares, whole = fill_squares(), fill_photos()
    kept = Photos.of_one_size(whole)
    batches = range(0, PHOTOS, BATCH)
    side = CONTRACT.stored_size
    measures = [
        ("share of the photo seen", seen((side, side)) * HEIGHT / WIDTH, seen((height, width)), ".3f"),
        ("bytes of a cached image", squares[0].nbytes, whole[0].nbytes, ",.0f"),
        ("images/s into the cache", per_second(PHOTOS, fill_squares), per_second(PHOTOS, fill_photos), ",.0f"),
        (
            "images/s of batches",
            per_second(PHOTOS, lambda: [crops_of_squares(squares, first) for first in batches]),
            per_second(PHOTOS, lambda: [crops_of_photos(kept, first) for first in batches]),
            ",.0f",
        ),
    ]
    rows = [(name, f"{before:{form}}", f"{now:{form}}", f"{now / before:.2f}") for name, before, now, form in measures]
    headers = ("500 x 375 to 224", f"square of {side}", f"photo of {width} x {height}", "ratio")
    print(text_table.markdown(rows, headers, numbers=headers[1:]), end="")


if __name__ == "__main__":
    main()
