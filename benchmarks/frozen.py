"""B3, B4: time saved by caching the activations of frozen blocks: `python -m benchmarks.frozen`.

B3, a layerwise schedule: CPU seconds of the epochs of every phase with cached activations and without, the ratio of the
sums, and the last block's steps against those of joint training. B4, a linear probe: eight trainings of ten epochs, one
for each learning rate, of which the first extracts the features and the others reuse them, against a loop that runs the
backbone in every step. Losses of both sides are compared. One thread, fp32, random images.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adaptformer.data.labelled import LabelledImages
from adaptformer.data.preprocessing import ImageContract
from adaptformer.data.train_images import Photos
from adaptformer.training import loop
from adaptformer.training.history import EpochRow
from adaptformer.training.run import Caching, Checkpoint, Compute, Run, TrainingData
from benchmarks import measuring, models

RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


def run(given: Any, held: bool, **settings: Any) -> Run:
    """Return a training run on random images; `settings` are the adapter's, or the training's."""
    numbers = np.random.default_rng(0)
    images = numbers.integers(0, 256, (given.images, 224, 224, 3), np.uint8)
    split = LabelledImages(images, numbers.integers(10, size=given.images), [], [])
    validation = LabelledImages(images[: given.batch], split.labels[: given.batch], [], [])
    training = {
        name: settings.pop(name) for name in list(settings) if name in type(models.params().training).model_fields
    }
    changed = {
        "fixed_crops": 1, "flip": False, "batch_size": given.batch, "gradient_accumulation": 1, "epochs": 1,
        "warmup_fraction": 0, "base_lr": 0.1,
        "crop_scale": (1.0, 1.0), "crop_ratio": (1.0, 1.0), "head_statistics": "running",
    }  # fmt: skip
    section = type(models.params().training).model_validate(
        {**models.params().training.model_dump(), **changed, **training}
    )
    contract = ImageContract(224, "crop", 1.0, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    state = Path(given.scratch) / f"{time.monotonic_ns()}.safetensors"
    return Run(
        model=models.classified(given.model, classes=10, **settings),
        data=TrainingData(split, Photos.of_one_size(images), validation, contract),
        params=section,
        compute=Compute(torch.device("cpu"), "fp32"),
        checkpoint=Checkpoint(state, {"training": section.model_dump(mode="json")}),
        caching=Caching(100.0 if held else 0.0, Path(given.scratch) / "features" if held else None),
    )


def trained(made: Run) -> tuple[list[EpochRow], list[float]]:
    """Train and return the rows, and the CPU seconds until each of them."""
    began = time.process_time()
    ends: list[float] = []
    rows, _ = loop.train(made, lambda _row: ends.append(time.process_time() - began))
    return rows, np.diff([0.0, *ends]).tolist()


def largest_difference(first: list[EpochRow], second: list[EpochRow]) -> float:
    """Return the largest difference between two runs' training losses."""
    return max(abs(a.train_loss - b.train_loss) for a, b in zip(first, second, strict=True))


def sweep(given: Any) -> tuple[list[list[str]], dict[str, Any], list[measuring.Target]]:
    """Time a layerwise schedule both ways, and a joint epoch."""
    layerwise: dict[str, Any] = {"schedule": "layerwise", "dropout": 0.0, "epochs": given.epochs}
    held, plain, joint = [], [], []
    difference = 0.0
    for _ in range(given.repeats):
        ours, seconds = trained(run(given, True, **layerwise))
        held.append(seconds)
        theirs, seconds = trained(run(given, False, **layerwise))
        plain.append(seconds)
        joint.append(trained(run(given, False, dropout=0.0))[1])
        difference = max(difference, largest_difference(ours, theirs))
    mine, other, whole = (np.median(seconds, axis=0) for seconds in (held, plain, joint))
    last = float(np.mean(mine[-given.epochs + 1 :])) if given.epochs > 1 else float(mine[-1])
    targets = [
        measuring.Target("layerwise sweep, activations held", other.sum() / mine.sum(), 1.4),
        measuring.Target("last block over a joint epoch", whole.sum() / len(whole) / last, 15),
    ]
    rows = [
        ["layerwise sweep, nothing held", f"{other.sum():.1f}", "1.00"],
        ["layerwise sweep, activations held", f"{mine.sum():.1f}", f"{other.sum() / mine.sum():.2f}"],
        ["joint epoch", f"{whole.mean():.2f}", "1.00"],
        ["last block's later epochs", f"{last:.2f}", f"{whole.mean() / last:.1f}"],
    ]
    measured = {"held": mine.tolist(), "plain": other.tolist(), "joint": whole.tolist(), "loss_difference": difference}
    return rows, measured, targets


def probe(given: Any) -> tuple[list[list[str]], dict[str, Any]]:
    """Time eight linear probes both ways; the loop that runs the backbone is timed for one epoch: all take the same."""
    probes = (run(given, True, method="linear", epochs=10, base_lr=rate, pooling="token") for rate in RATES)
    held = sum(sum(trained(made)[1]) for made in probes)
    plain, seconds = trained(run(given, False, method="linear", epochs=1, base_lr=RATES[0], pooling="token"))
    loops = seconds[0] * 10 * len(RATES)
    first = trained(run(given, True, method="linear", epochs=1, base_lr=RATES[0], pooling="token"))[0]
    table = [
        ["8 probes of 10 epochs, backbone in every step", f"{loops:.1f}", "1.00"],
        ["8 probes of 10 epochs, features held", f"{held:.1f}", f"{loops / held:.1f}"],
    ]
    return table, {"held": held, "plain": loops, "loss_difference": largest_difference(first, plain)}


def main() -> None:
    """Run both benchmarks and print their results."""
    parser = measuring.parser(__doc__, repeats=1)
    parser.add_argument("--model", default="vit_tiny_patch16_224", help="timm's name (default: %(default)s)")
    parser.add_argument("--images", type=int, default=64, help="training images (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=16, help="images per step (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=2, help="epochs per phase of B3 (default: %(default)s)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as given.scratch:
        rows, measured, targets = sweep(given)
        more, probed = probe(given)
    measuring.report(
        "frozen",
        ("work", "CPU seconds", "times as fast"),
        [*rows, *more],
        {"sweep": measured, "probe": probed},
        [*targets, measuring.Target("eight probes, features held", probed["plain"] / probed["held"], 50)],
    )
    print(f"largest difference of training losses: {measured['loss_difference']:.1e}, {probed['loss_difference']:.1e}")


if __name__ == "__main__":
    main()
