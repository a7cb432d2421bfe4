"""Quality and speed of the search for near duplicates: `python -m benchmarks.duplicates FOLDER`.

FOLDER holds images, in any depth (such as CIFAR-10's). Near duplicates among them are found first and removed. Then
each kind of change is applied to copies of some images, and the copies are mixed with all the others: *recall* is the
share of copies that are found with their original, *precision* the share of true pairs among the found pairs. Finally
the whole search is timed on growing numbers of images, and so is the comparison of 100,000 signatures.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from adaptformer.base import memory
from adaptformer.curation.checks import duplicate_verification, near_duplicates
from adaptformer.data import thread_map
from adaptformer.data.image_facts import small_picture
from benchmarks import measuring

Change = Callable[[Image.Image, np.random.Generator], Image.Image]
BICUBIC = Image.Resampling.BICUBIC


def cropped(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Return a random part with 80 % of the area."""
    width, height = (round(side * math.sqrt(0.8)) for side in image.size)
    left, top = (int(random.integers(0, most + 1)) for most in (image.width - width, image.height - height))
    return image.crop((left, top, left + width, top + height))


def turned(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Return the image turned by up to 15 degrees, with black corners."""
    return image.rotate(random.uniform(-15, 15), BICUBIC)


def stretched(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Return the middle of the image after it was stretched by up to 20 % in one direction."""
    factor, (width, height) = random.uniform(1, 1.2), image.size
    if random.random() < 0.5:
        wide, left = round(width * factor), round(width * (factor - 1) / 2)
        return image.resize((wide, height), BICUBIC).crop((left, 0, left + width, height))
    high, top = round(height * factor), round(height * (factor - 1) / 2)
    return image.resize((width, high), BICUBIC).crop((0, top, width, top + height))


def compressed(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Return the image as JPEG of a quality between 50 and 90."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=int(random.integers(50, 91)))
    return Image.open(file)


def resized(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Return the image at 75 to 200 % of its size."""
    factor = random.uniform(0.75, 2)
    return image.resize((round(image.width * factor), round(image.height * factor)), BICUBIC)


CHANGES: dict[str, tuple[Change, float]] = {
    "resized": (resized, 0.95), "JPEG": (compressed, 0.95), "mirrored": (lambda i, _: ImageOps.mirror(i), 0.95),
    "cropped to 80 % of the area": (cropped, 0.9), "turned by up to 15 degrees": (turned, 0.9),
    "stretched by up to 20 %": (stretched, 0.9),
}  # fmt: skip


def pictures(images: Iterable[Image.Image]) -> NDArray[np.uint8]:
    """Return the small pictures of images that `validate` compares."""
    return np.stack([small_picture(np.asarray(image.convert("RGB"))) for image in images])


def apart(images: list[Image.Image]) -> list[Image.Image]:
    """Return the images without those that are near duplicates of others."""
    pairs = near_duplicates.pairs(pictures(images))
    twins = {int(index) for pair in pairs for index in pair}
    return [image for index, image in enumerate(images) if index not in twins]


def judged(images: list[Image.Image], change: Change, copies: int) -> tuple[float, float]:
    """Return recall and precision for one kind of change."""
    random = np.random.default_rng(0)
    originals = random.permutation(len(images))[:copies]
    changed = [change(images[index], random) for index in originals]
    pairs = {(int(a), int(b)) for a, b in near_duplicates.pairs(pictures([*images, *changed]))}
    true = {(int(index), len(images) + number) for number, index in enumerate(originals)}
    return len(pairs & true) / len(true), len(pairs & true) / max(len(pairs), 1)


def main() -> None:
    """Print recall and precision for each change, and the seconds of the search."""
    parser = measuring.parser(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=4000, help="images beside the copies (default: %(default)s)")
    parser.add_argument("--copies", type=int, default=300, help="copies of each kind (default: %(default)s)")
    parser.add_argument("--sizes", type=int, nargs="*", default=[1000, 3000, 10_000], help="numbers of images to time")
    given = parser.parse_args()
    torch.set_num_threads(thread_map.cores())
    paths = sorted(path for path in given.folder.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
    paths = [paths[index] for index in np.random.default_rng(0).permutation(len(paths))]
    images = apart([Image.open(path).convert("RGB") for path in paths[: given.images]])
    print(f"{len(images)} images without near duplicates among them, of {min(given.images, len(paths))}")
    rates = {name: judged(images, change, given.copies) for name, (change, _) in CHANGES.items()}
    rows = [[name, f"{recall:.3f}", f"{precision:.3f}"] for name, (recall, precision) in rates.items()]
    timed = {}
    for size in [size for size in given.sizes if size <= len(paths)]:
        memory.forget_peak()
        began = time.perf_counter()
        near_duplicates.pairs(pictures(Image.open(path) for path in paths[:size]))
        timed[size] = time.perf_counter() - began
        rows.append([f"{size:,} images, read and searched", f"{timed[size]:.1f} s", f"{memory.peak_mb():,.0f} MB"])
    if len(timed) > 1:
        exponent = float(np.polyfit(np.log(list(timed)), np.log(list(timed.values())), 1)[0])
        rows.append(["fitted exponent of the seconds", f"{exponent:.2f}", ""])
    targets = [
        measuring.Target(f"{name}: the worse of both", min(rates[name]), target)
        for name, (_, target) in CHANGES.items()
    ]
    about = {"found": rates, "seconds": timed, "detail": duplicate_verification.DETAIL}
    measuring.report("duplicates", ("change or work", "recall", "precision"), rows, about, targets)


if __name__ == "__main__":
    main()
