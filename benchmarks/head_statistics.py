"""Whether head statistics over few training images choose as well as over all: `python -m benchmarks.head_statistics`.

Run `adaptformer validate` and `adaptformer fetch` before it. Each seed trains once as params.yaml says, because the
training does not depend on these statistics. After each epoch they are computed over several numbers of images, and
the validation and test images are classified with each. Prints, for each number, the epoch that validation chooses,
and how the model of that epoch does on the test split.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from adaptformer.base import randomness
from adaptformer.config import params as config
from adaptformer.config.run_folder import RunFolder
from adaptformer.data.cache import ImageCache
from adaptformer.data.labelled import DataSet, LabelledImages
from adaptformer.model import batch_norm, inference
from adaptformer.training import loop, setup
from adaptformer.training.data_parallel import World
from adaptformer.training.run import Checkpoint, Run
from benchmarks import measuring


class Scores(NamedTuple):
    """Top-1 and cross-entropy on the validation and on the test split."""

    validation_top1: float
    validation_loss: float
    test_top1: float
    test_loss: float


def features(run: Run, split: LabelledImages) -> tuple[Tensor, ...]:
    """Return the pooled features [N, D] of a split in evaluation mode, for each head."""
    rows, device = np.arange(len(split.labels)), run.compute.device
    images = inference.prepared(split.images, rows, run.data.contract, batch_size=64, device=device)
    return tuple(torch.cat(parts) for parts in zip(*map(run.model.pooled, images), strict=True))


@torch.no_grad()
def scores(run: Run, test: LabelledImages, counts: Sequence[int]) -> list[Scores]:
    """Return the scores of the present weights with statistics over each number of training images."""
    results = []
    with inference.in_mode(run.model, training=False):
        train = features(run, run.data.train)
        judged = [(features(run, split), torch.from_numpy(split.labels)) for split in (run.data.validation, test)]
        order = randomness.permutation(len(train[0]), "head statistics", run.params.seed)
        for count in counts:
            rows = torch.from_numpy(order[:count])
            batch_norm.recompute_statistics(run.model, [tuple(part[rows] for part in train)])
            values: list[float] = []
            for pooled, labels in judged:
                logits = run.model.logits(pooled)
                values += [float((logits.argmax(1) == labels).float().mean()), float(F.cross_entropy(logits, labels))]
            results.append(Scores(*values))
    return results


def of_seed(seed: int, counts: Sequence[int]) -> list[list[Scores]]:
    """Train with a seed and return the scores of each epoch for each number of images."""
    changes = {"training.seed": seed, "training.statistics_fraction": 1.0, "runtime.device": "cpu"}
    params, folder = config.load(overrides=changes), RunFolder()
    start = setup.prepare(params, folder)
    cache = ImageCache(folder.image_cache, params.runtime.image_cache_gb)
    test = DataSet(start.manifest, start.classes, folder.data, start.contract, cache).split("test")
    epochs: list[list[Scores]] = []
    with tempfile.TemporaryDirectory() as scratch:
        run = dataclasses.replace(
            setup.load(start, params, folder, {}, World()),
            params=params.training.model_copy(update={"head_statistics": "running"}),
            checkpoint=Checkpoint(Path(scratch, "state.safetensors"), {}),
        )
        loop.train(run, lambda _row: epochs.append(scores(run, test, counts)))
    return epochs


def main() -> None:
    """Train with each seed, and print a row for each seed and number of images, and the means."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="(default: 0 1 2)")
    parser.add_argument("--images", type=int, nargs="+", default=[64, 128, 256, 512, 2000], help="numbers of images")
    given = parser.parse_args()
    rows, measured = [], {}
    for seed in given.seeds:
        measured[seed] = of_seed(seed, given.images)
        for index, count in enumerate(given.images):
            of_count = [epoch[index] for epoch in measured[seed]]
            best = max(range(len(of_count)), key=lambda epoch: (of_count[epoch][0], -of_count[epoch][1], -epoch))
            values = [f"{of_count[best].validation_top1:.2%}", f"{of_count[best].validation_loss:.4f}",
                      f"{of_count[best].test_top1:.2%}", f"{of_count[best].test_loss:.4f}"]  # fmt: skip
            rows.append([str(seed), str(count), str(best + 1), *values])
    headers = ("seed", "images", "epoch", "validation top-1", "loss", "test top-1", "loss")
    measuring.report("head_statistics", headers, rows, {"images": given.images, "seeds": measured})


if __name__ == "__main__":
    main()
