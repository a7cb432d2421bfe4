"""Error rates of `adaptformer monitor`: `python -m benchmarks.watch accuracy | drift | run`.

`accuracy` draws validation and new images from models whose true accuracy is known, and counts how often the interval
of monitoring/expected_accuracy.py holds the accuracy on the new images. `drift` takes a run folder's profile: batches
of the model's own images must not be called different; batches that are half pieces of two photographs must be. `run`
hides the labels of a run folder's test images: it uses a real model, but always the same validation split, so its share
is not the coverage.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_images

from adaptformer.base import randomness, text_table
from adaptformer.config.run_folder import RunFolder
from adaptformer.data import image_scan, manifest
from adaptformer.data.cache import ImageCache
from adaptformer.evaluation import data_profile
from adaptformer.evaluation.data_profile import Profile
from adaptformer.evaluation.intervals import Interval, wilson
from adaptformer.model import device
from adaptformer.model.embedding import Embedding
from adaptformer.monitoring import expected_accuracy, permutation_drift
from adaptformer.prediction.predictor import Predictor
from benchmarks import measuring

NEW = 200
"""New images in each draw of `accuracy`."""
SPREAD, TRUTH = 1.6, 0.7
"""Standard deviation of the confidence's log-odds, and their factor to the true log-odds: below 1 is overconfident."""


def accuracy(given: argparse.Namespace) -> None:
    """Print the coverage of the expected accuracy, on models whose confidence is too high, each row as it is ready."""
    headers = ["validation images", "true accuracy", "interval contains it (95 %)", "mean width"]
    rows, targets = [], []
    print(
        f"{given.draws} draws of {NEW} new images each\n\n{text_table.markdown([], headers, numbers=headers)}", end=""
    )
    for images in (20, 50, 216, 2000):
        for right in (0.8, 0.9, 0.95, 0.99):
            inside, width = [], []
            centre = _centre(right)
            for draw in range(given.draws):
                random = randomness.generator("watch accuracy", images, int(1000 * right), draw)
                odds = centre + SPREAD * random.standard_normal(images + NEW)
                truth = random.random(images + NEW) < 1 / (1 + np.exp(-TRUTH * odds))
                confidence = 1 / (1 + np.exp(-odds))
                estimate = expected_accuracy.estimate(confidence[:images], truth[:images], confidence[images:])
                inside.append(estimate.low <= truth[images:].mean() <= estimate.high)
                width.append(estimate.high - estimate.low)
            share = wilson(sum(inside), len(inside))
            rows.append([f"{images:,}", f"{right:.0%}", _told(share), f"{100 * np.mean(width):.1f} points"])
            print(f"| {' | '.join(rows[-1])} |", flush=True)
            targets.append(measuring.Target(f"{images} validation images, {right:.0%} right", share.value, 0.9))
    measuring.report("watch_accuracy", (), (), {"rows": rows}, targets)


def _centre(right: float) -> float:
    """Return the mean log-odds with which this share of the answers is right."""
    standard = randomness.generator("watch centre").standard_normal(100_000)
    low, high = -20.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        share = (1 / (1 + np.exp(-TRUTH * (middle + SPREAD * standard)))).mean()
        low, high = (middle, high) if share < right else (low, middle)
    return low


def drift(given: argparse.Namespace) -> None:
    """Print how often batches of a run folder's own images, and batches that are half foreign, are called different."""
    folder = RunFolder(given.folder, given.data)
    own = data_profile.read(folder.profile)
    photographs = _photographs(own, folder)
    rows, targets = [], []
    for images in (20, 60, 120):
        for foreign in (0, images // 2):
            warned, by_content = 0, 0
            for draw in range(given.draws):
                order = randomness.permutation(len(own.sizes), "watch drift", images, foreign, draw)
                pieces = randomness.permutation(len(photographs.sizes), "watch pieces", images, foreign, draw)
                batch = _joined(_of(own, order[: images - foreign]), _of(photographs, pieces[:foreign]))
                checks = permutation_drift.compare(batch, _of(own, order[images:]))
                warned += any(check.verdict == "warn" for check in checks)
                by_content += checks[-1].verdict == "warn"
            share = wilson(warned, given.draws)
            by_content_cell = _told(wilson(by_content, given.draws))
            rows.append([f"{images}", f"{foreign}", _told(share), by_content_cell])
            name = f"{images} images, {foreign} foreign: {'found' if foreign else 'not alarmed'}"
            targets.append(measuring.Target(name, *((share.value, 0.99) if foreign else (1 - share.value, 0.95))))
    print(f"{given.draws} draws each; {len(own.sizes):,} images of the model's own, {len(photographs.sizes):,} foreign")
    headers = ["images", "of them foreign", "called different (95 %)", "by content alone"]
    measuring.report("watch_drift", headers, rows, {"rows": rows}, targets)


def _photographs(own: Profile, folder: RunFolder) -> Profile:
    """Return the profile of pieces of two photographs, which come with scikit-learn."""
    with tempfile.TemporaryDirectory() as place:
        root, records = Path(place), []
        for number, photograph in enumerate(load_sample_images().images):
            picture, random = Image.fromarray(photograph), randomness.generator("watch photographs", number)
            for piece in range(100):
                left, top = int(random.integers(0, picture.width - 96)), int(random.integers(0, picture.height - 96))
                path = root / f"{number}-{piece}.png"
                picture.crop((left, top, left + 96, top + 96)).save(path)
                facts = image_scan.read_all([path])
                records += [{"path": path.name, **one._asdict()} for one in facts if not isinstance(one, str)]
        embedding = Embedding(folder.backbone, own.image, device.choose("cpu", 0), root / "features.safetensors")
        return data_profile.profile(
            pd.DataFrame.from_records(records), root, embedding, ImageCache(root / "cache", 1.0)
        )


def _of(profile: Profile, rows: NDArray[np.int64]) -> Profile:
    parts: dict[str, Any] = {name: getattr(profile, name)[rows] for name in ("sizes", "channels", "embeddings")}
    return dataclasses.replace(profile, **parts)


def _joined(one: Profile, other: Profile) -> Profile:
    names = ("sizes", "channels", "embeddings")
    parts: dict[str, Any] = {name: np.concatenate([getattr(one, name), getattr(other, name)]) for name in names}
    return dataclasses.replace(one, **parts)


def run(given: argparse.Namespace) -> None:
    """Print how often the expected accuracy of a run folder's model holds on draws of its test images."""
    folder = RunFolder(given.folder, given.data)
    predictor, table = Predictor(folder.model, device="cpu"), manifest.read_manifest(folder.manifest)
    confidence, right = {}, {}
    for split in ("validation", "test"):
        of_split = manifest.rows(table, split)
        contents: Iterator[bytes] = ((folder.data / path).read_bytes() for path in of_split["path"])
        probabilities = np.concatenate(list(predictor.probabilities(contents)))
        confidence[split] = probabilities.max(axis=1)
        right[split] = np.array(predictor.classes)[probabilities.argmax(axis=1)] == of_split["label"].to_numpy()
    rows = []
    for size in (50, 100, 200):
        inside, error, width = 0, [], []
        for draw in range(given.draws):
            drawn = randomness.generator("watch draw", size, draw).choice(len(right["test"]), size, replace=False)
            interval = expected_accuracy.estimate(
                confidence["validation"], right["validation"], confidence["test"][drawn]
            )
            true = right["test"][drawn].mean()
            inside += bool(interval.low <= true <= interval.high)
            error.append(abs(interval.value - true))
            width.append(interval.high - interval.low)
        rows.append([f"{size}", f"{inside / given.draws:.1%}", f"{np.mean(error):.3f}", f"{np.mean(width):.3f}"])
    print(f"accuracy: {right['validation'].mean():.3f} validation ({len(right['validation'])}), ", end="")
    print(f"{right['test'].mean():.3f} test ({len(right['test'])}); {given.draws} draws each")
    measuring.report("watch_run", ["images", "inside", "mean error", "mean width"], rows, {"rows": rows}, [])


def _told(share: Interval) -> str:
    return f"{share.value:.1%} ({share.low:.1%} to {share.high:.1%})"


def main() -> None:
    """Print one of the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tables = {"accuracy": accuracy, "drift": drift, "run": run}
    parser.add_argument("table", choices=tables)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("artifacts"), help="a run folder (drift, run)")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--draws", type=int, default=200)
    given = parser.parse_args()
    tables[given.table](given)


if __name__ == "__main__":
    main()
