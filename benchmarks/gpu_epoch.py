"""B6: whole epochs of adapters on a GPU, from JPEG photos to a saved checkpoint: `python -m benchmarks.gpu_epoch`.

Our side is the stage `train` as a user runs it, from the second epoch on: random crops of cached photos, flips, the
validation split, the training state. The other side trains the same model with the usual parts of scripts:
torchvision's ImageFolder and random crops, DataLoaders with 16 persistent workers, evaluation of the same validation
photos, `torch.save`. Wall-clock seconds, from the end of one epoch to the end of the next, in one process.
`--device cpu --model vit_tiny_patch16_224 --images 64 --batch 16` runs the same code anywhere, to test it.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from adaptformer.config import params
from adaptformer.config.params import Params
from adaptformer.config.run_folder import RunFolder
from adaptformer.data import manifest
from adaptformer.model import classifier, device
from adaptformer.model.torchvision_ops import import_torchvision
from adaptformer.pipeline.stages import STAGES
from adaptformer.training.optimiser import build_optimiser
from benchmarks import measuring, models, photos

MODELS = ("vit_base_patch16_224", "vit_large_patch16_224")
WANTED = {"vit_base_patch16_224": 2.0, "vit_large_patch16_224": 1.5}
"""How many times as fast as the other side an epoch should be."""
WORKERS, SIZE, CROPS = 16, 224, (0.08, 1.0)
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)

Seconds = list[float]


def settings(batch: int, epochs: int, where: str) -> Params:
    """Return the params of params.yaml with the paper's adapters, changed for photos."""
    adapter = {f"adapter.{name}": value for name, value in models.ADAPTER_64.items()}
    return params.read().replaced({
        **adapter, "image.size": SIZE, "image.crop_fraction": 0.875, "training.epochs": epochs,
        "training.batch_size": batch, "training.crop_scale": list(CROPS), "training.crop_ratio": list(photos.RATIO),
        "training.flip": True, "runtime.device": where, "runtime.progress": "none",
    })  # fmt: skip


def write_data(root: Path, images: int) -> None:
    """Write `images` photos of 500 x 375, a tenth of them for validation and the rest for training; one for test."""
    photos.write(photos.Kind(375, 500, images, CROPS[0]), root)
    # Sorted by number, so that both classes are among the first ones.
    spare = sorted((root / "train").rglob("*.jpg"), key=lambda path: path.name)[: max(4, images // 10)]
    for path in spare:
        target = root / "validation" / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)


def ours(root: Path, name: str, run_params: Params) -> Seconds:
    """Return the seconds of each epoch of the stage `train` except the first, which fills the image cache."""
    folder = RunFolder(root / "artifacts", root / "data")
    table, _ = manifest.scan(folder.data, manifest.ValidationShare(0.1, 0))
    manifest.write_manifest(folder.manifest, table)
    models.write_backbone(folder.backbone, name, models.encoder(name, SIZE))
    ends: Seconds = []
    STAGES["train"].run(run_params, folder, lambda _row: ends.append(time.perf_counter()))
    return [after - before for before, after in itertools.pairwise(ends)]


def others(root: Path, name: str, batch: int, epochs: int, where: torch.device) -> Seconds:
    """Return the seconds of each epoch of the other side except the first, in which its workers start."""
    import_torchvision()
    from torchvision import datasets, transforms

    bicubic, normalise = transforms.InterpolationMode.BICUBIC, transforms.Normalize(MEAN, STD)
    seen = {
        "train": [transforms.RandomResizedCrop(SIZE, CROPS, photos.RATIO, bicubic), transforms.RandomHorizontalFlip()],
        "validation": [transforms.Resize(256, bicubic), transforms.CenterCrop(SIZE)],
    }
    loaders = {
        split: torch.utils.data.DataLoader(
            datasets.ImageFolder(
                str(root / "data" / split), transforms.Compose([*crops, transforms.ToTensor(), normalise])
            ),
            batch, shuffle=split == "train", drop_last=split == "train", num_workers=WORKERS,
            persistent_workers=True, pin_memory=where.type == "cuda",
        )
        for split, crops in seen.items()
    }  # fmt: skip
    model = models.classified(name).to(where)
    optimiser = build_optimiser(model, models.params().training)
    for group in optimiser.param_groups:
        group["lr"] = 1e-3
    ends: Seconds = []
    for _ in range(epochs):
        model.train()
        for images, labels in _moved(loaders["train"], where):
            optimiser.zero_grad(set_to_none=True)
            with device.autocast(where, "bf16"):
                loss = F.cross_entropy(model(images), labels)
            loss.backward()
            optimiser.step()
        _evaluate(model.eval(), loaders["validation"], where)
        torch.save(classifier.trainable(model), root / "checkpoint.pt")
        ends.append(time.perf_counter())
    return [after - before for before, after in itertools.pairwise(ends)]


def _moved(loader: Any, where: torch.device) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for images, labels in loader:
        yield images.to(where, non_blocking=True), labels.to(where, non_blocking=True)


@torch.no_grad()
def _evaluate(model: nn.Module, loader: Any, where: torch.device) -> float:
    right = torch.zeros((), device=where)
    for images, labels in _moved(loader, where):
        with device.autocast(where, "bf16"):
            right += (model(images).argmax(dim=1) == labels).sum()
    return float(right)


def main() -> None:
    """Measure each model and print the table."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--model", action="append", help=f"timm's name, repeatable (default: {', '.join(MODELS)})")
    parser.add_argument("--images", type=int, default=4000, help="training photos (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=128, help="images per step (default: %(default)s)")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    given = parser.parse_args()
    where = device.choose(given.device, 0)
    rows, seconds_of, targets = [], {}, []
    for name in given.model or MODELS:
        with tempfile.TemporaryDirectory() as scratch:
            root, epochs = Path(scratch), given.repeats + 1
            write_data(root / "data", given.images)
            seconds = {
                "adaptformer": ours(root, name, settings(given.batch, epochs, given.device)),
                "ImageFolder, DataLoader": others(root, name, given.batch, epochs, where),
            }
        medians = {side: statistics.median(taken) for side, taken in seconds.items()}
        seconds_of[name] = seconds
        ratio = medians["ImageFolder, DataLoader"] / medians["adaptformer"]
        images = given.images - max(4, given.images // 10)
        rows += [[name, side, f"{taken:.1f}", f"{images / taken:,.0f}"] for side, taken in medians.items()]
        if name in WANTED:
            targets.append(measuring.Target(f"{name}: epochs over the other side's", ratio, WANTED[name]))
        else:
            print(f"{name}: {ratio:.2f} times as fast")
    about = {"device": device.describe(where), "images": given.images, "batch": given.batch, "seconds": seconds_of}
    measuring.report("gpu_epoch", ("model", "side", "s an epoch", "training images/s"), rows, about, targets)


if __name__ == "__main__":
    main()
