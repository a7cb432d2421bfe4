"""B10, a folder of photos: epochs of random crops against torchvision's ImageFolder: `python -m benchmarks.photos`.

Makes JPEGs of 12 megapixels and of 500 x 375 from scikit-learn's two photographs, and times, on all cores and without a
model, one epoch of batches of 224 pixels, flipped and normalised. Torchvision: ImageFolder, RandomResizedCrop and a
DataLoader with a worker process for each core. Ours: the first epoch fills an empty cache, the second reads it, and a
set that is larger than the cache is decoded in every epoch; `adaptformer validate` runs once before. Wall-clock
seconds, because the workers are processes. It also prints how much reduced decoding differs from full decoding.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from adaptformer.data import augmentation, cache, manifest, resizing, thread_map, train_images
from adaptformer.data.preprocessing import ImageContract
from adaptformer.model.torchvision_ops import import_torchvision
from benchmarks import measuring

CONTRACT = ImageContract(224, "crop", 0.875, "bicubic", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), jpeg_min_scale=2)
RATIO, BATCH, QUALITY, GRAIN = (0.75, 4 / 3), 32, 90, 3


class Kind(NamedTuple):
    """A set of photos: size in pixels, number, and the smallest share of the area that a crop keeps."""

    height: int
    width: int
    photos: int
    smallest_share: float

    def __str__(self) -> str:
        """Return the kind as the table names it."""
        return f"{self.width} x {self.height}, crops from {self.smallest_share:.0%}"


def kinds(count: int) -> list[Kind]:
    """Return the sets: `count` large photos each, and eight times as many small ones."""
    return [Kind(3000, 4000, count, 0.08), Kind(3000, 4000, count, 0.5), Kind(375, 500, 8 * count, 0.08)]


def write(kind: Kind, folder: Path) -> None:
    """Write the photos: enlarged parts of a photograph, each another one, with grain; two classes, three splits."""
    sources = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    for number in range(kind.photos + 2):
        random = np.random.default_rng(number)
        source = sources[number % 2]
        left, top = (int(random.integers(0, most)) for most in (128, 96))
        part = source.resize(
            (kind.width, kind.height), Image.Resampling.BICUBIC, box=(left, top, left + 512, top + 331)
        )
        grain = GRAIN * random.standard_normal((kind.height, kind.width, 1), np.float32)
        pixels = np.clip(np.asarray(part) + grain, 0, 255).astype(np.uint8)
        split = "train" if number < kind.photos else ("validation", "test")[number - kind.photos]
        path = folder / split / ("temple", "flower")[number % 2] / f"{number:04}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, "JPEG", quality=QUALITY)


def torchvision_epoch(folder: Path, kind: Kind) -> Callable[[], None]:
    """Return torchvision's epoch over the train split."""
    import_torchvision()
    from torchvision import datasets, transforms

    prepare = transforms.Compose([
        transforms.RandomResizedCrop(
            CONTRACT.size, (kind.smallest_share, 1.0), RATIO, transforms.InterpolationMode.BICUBIC
        ),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(CONTRACT.mean, CONTRACT.std),
    ])  # fmt: skip
    images = datasets.ImageFolder(str(folder / "train"), prepare)

    def epoch() -> None:
        loader = torch.utils.data.DataLoader(images, BATCH, shuffle=True, num_workers=thread_map.cores())
        for _ in loader:
            pass

    return epoch


def our_epoch(kept: train_images.StoredImages, kind: Kind) -> None:
    """Make all batches of an epoch as training does."""
    boxes = augmentation.random_boxes(kept.shapes, (kind.smallest_share, 1.0), RATIO, True, 0)
    mean, std = torch.tensor(CONTRACT.mean), torch.tensor(CONTRACT.std)
    for start in range(0, len(kept), BATCH):
        drawn = range(start, min(start + BATCH, len(kept)))
        cropped = augmentation.crop(kept.take(drawn), boxes[start : start + BATCH], CONTRACT.size, "bicubic")
        augmentation.normalise(augmentation.planes(cropped), mean, std)


def sides(kind: Kind, data: Path, scratch: Path) -> dict[str, Callable[[], object]]:
    """Return the functions to time, by name."""
    rows = manifest.rows(manifest.scan(data, manifest.ValidationShare(0.2, 0))[0], "train")

    def loaded(table: pd.DataFrame, folder: Path, gigabytes: float | None) -> train_images.StoredImages:
        return cache.load_photos(table, data, CONTRACT, cache.ImageCache(folder, gigabytes), kind.smallest_share)

    def first() -> None:
        shutil.rmtree(scratch / "empty", ignore_errors=True)
        our_epoch(loaded(rows, scratch / "empty", None), kind)

    return {
        "ImageFolder": torchvision_epoch(data, kind),
        "first epoch": first,
        "second epoch": lambda: our_epoch(loaded(rows, scratch / "full", None), kind),
        "streamed epoch": lambda: our_epoch(loaded(rows, scratch / "none", 0), kind),
        "validate": lambda: manifest.scan(data, manifest.ValidationShare(0.2, 0)),
    }


def differences(data: Path, count: int = 8) -> tuple[int, float]:
    """Return the largest and the mean difference (of 255) between squares decoded at reduced and at full scale."""
    full = dataclasses.replace(CONTRACT, jpeg_min_scale=0)
    contents = [path.read_bytes() for path in sorted(data.rglob("*.jpg"))[:count]]
    pairs = [(resizing.square(content, CONTRACT), resizing.square(content, full)) for content in contents]
    apart = np.stack([np.abs(reduced.astype(int) - whole) for reduced, whole in pairs])
    return int(apart.max()), float(apart.mean())


def targets(measured: dict[str, dict[str, Any]]) -> list[measuring.Target]:
    """Return the targets: how many times as fast as ImageFolder the epochs of each kind should be."""
    results = []
    for kind in kinds(1):
        median = measured[str(kind)]["medians"]
        bounds = {"first epoch": 5, "second epoch": 20} if kind.width == 4000 else {"first epoch": 1.5}
        results += [
            measuring.Target(f"{kind}: {name}", median["ImageFolder"] / median[name], times)
            for name, times in bounds.items()
        ]
    return results


def main() -> None:
    """Measure every kind and print the table."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--photos", type=int, default=32, help="photos of 12 megapixels (default: %(default)s)")
    given = parser.parse_args()
    torch.set_num_threads(thread_map.cores())
    rows: list[list[str]] = []
    measured: dict[str, dict[str, Any]] = {}
    for kind in kinds(given.photos):
        with tempfile.TemporaryDirectory() as scratch:
            data = Path(scratch, "data")
            write(kind, data)
            seconds = measuring.interleaved(sides(kind, data, Path(scratch)), given.repeats, time.perf_counter)
            largest, mean = differences(data)
        median = measuring.medians(seconds)
        median["validate and first epoch"] = median["validate"] + median["first epoch"]
        for name, value in median.items():
            speed, ratio = kind.photos / value, median["ImageFolder"] / value
            rows.append([str(kind), name, f"{value:.2f}", f"{speed:,.1f}", f"{ratio:.2f}"])
        measured[str(kind)] = {
            "seconds": seconds, "medians": median, "images": kind.photos,
            "largest_difference": largest, "mean_difference": mean,
        }  # fmt: skip
    headers = ("photos", "work", "seconds", "images/s", "times as fast")
    measuring.report("photos", headers, rows, {"kinds": measured}, targets(measured))
    for name, values in measured.items():
        largest, mean = values["largest_difference"], values["mean_difference"]
        print(f"{name}: squares differ from full decoding by at most {largest} of 255, {mean:.2f} on average")


if __name__ == "__main__":
    main()
