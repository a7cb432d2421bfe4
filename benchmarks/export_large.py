"""Export and predict a large model with random weights; print seconds, peak memory and file sizes.

    python -m benchmarks.export_large --model vit_huge_patch14_224.mae

Each step runs in a process of its own, so that its peak memory (the largest resident size) can be measured.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from adaptformer.base import memory, text_table
from adaptformer.config.params import load
from adaptformer.config.run_folder import RunFolder
from adaptformer.data import manifest
from adaptformer.data.preprocessing import ImageContract
from adaptformer.model import adapter_file, backbone, classifier
from adaptformer.pipeline.stages import STAGES
from benchmarks import models

ROOT = Path(__file__).resolve().parents[1]
CLASSES = ("left", "right")
IMAGES = 2
SIDE = 224


def prepare(root: Path, model: str, external_data_mb: int | None) -> None:
    """Write the inputs of `export`: params, a few images with their manifest, a random backbone and its adapter."""
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["image"]["size"] = SIDE
    if external_data_mb is not None:
        content["export"]["external_data_mb"] = external_data_mb
    (root / "params.yaml").write_text(yaml.safe_dump(content))
    numbers = np.random.default_rng(0)
    for split in ("train", "validation", "test"):
        for label in CLASSES:
            (root / "data" / split / label).mkdir(parents=True)
            for index in range(IMAGES):
                pixels = numbers.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / "data" / split / label / f"{index}.png")
    folder = RunFolder(root / "artifacts", root / "data")
    table, _ = manifest.scan(folder.data, manifest.ValidationShare(0.1, 0))
    manifest.write_manifest(folder.manifest, table)
    settings = load(root / "params.yaml").adapter
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in backbone.build(model).state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    encoder = {name: 0.02 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    card = models.write_backbone(folder.backbone, model, encoder)
    built = classifier.build(model, encoder, settings, image_size=SIDE, classes=len(CLASSES), seed=0)
    contract = ImageContract(**content["image"], mean=card.mean, std=card.std)
    trained = sum(parameter.numel() for parameter in classifier.trainable(built).values())
    adapter_file.write(
        folder.adapter,
        built,
        adapter_file.AdapterCard(settings.model_dump(mode="json"), CLASSES, contract, card, "fp32", 1, trained),
    )


def export(root: Path) -> dict[str, Any]:
    """Run the stage `export`."""
    return STAGES["export"].run(
        load(root / "params.yaml"), RunFolder(root / "artifacts", root / "data"), lambda _row: None
    )


def predict(root: Path) -> dict[str, Any]:
    """Classify the test images as `adaptformer predict` does, and return the fastest of five checks of the checksum."""
    from adaptformer.prediction import model_checksum
    from adaptformer.prediction.predictor import Predictor, images_below

    model = root / "artifacts" / "model.onnx"
    taken = []
    for _ in range(5):
        began = time.perf_counter()
        model_checksum.matches(model)
        taken.append(time.perf_counter() - began)
    predictor = Predictor(model, device="cpu")
    predictions = list(predictor.predict(images_below([root / "data" / "test"]), top=1))
    answers = len([prediction for prediction in predictions if not prediction.fault])
    return {"images": answers, "checksum_ms": 1000 * min(taken)}


def _step(name: str, root: Path) -> dict[str, Any]:
    """Run a step in a process of its own and return its measurements."""
    command = [sys.executable, "-m", "benchmarks.export_large", *sys.argv[1:], "--step", name, "--folder", str(root)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _measured(given: argparse.Namespace) -> dict[str, Any]:
    root: Path = given.folder
    steps: dict[str, Callable[[], dict[str, Any] | None]] = {
        "prepare": lambda: prepare(root, given.model, given.external_data_mb),
        "export": lambda: export(root),
        "predict": lambda: predict(root),
    }
    began = time.perf_counter()
    results = steps[given.step]() or {}
    seconds = round(time.perf_counter() - began, 1)
    return {**results, "seconds": seconds, "peak_gb": round(memory.peak_mb() / 1000, 2)}


def main() -> None:
    """Run all steps and print a table of them, the file sizes, and the result of the parity check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit_huge_patch14_224.mae", help="timm's name (default: %(default)s)")
    parser.add_argument("--external-data-mb", type=int, help="replaces export.external_data_mb of params.yaml")
    parser.add_argument("--step", choices=["prepare", "export", "predict"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        print(json.dumps(_measured(given)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        steps = {name: _step(name, root) for name in ("prepare", "export", "predict")}
        rows = [[name, f"{step['seconds']:.1f}", f"{step['peak_gb']:.2f}"] for name, step in steps.items()]
        print(text_table.aligned(rows, ["step", "seconds", "peak GB"]))
        folder = RunFolder(root / "artifacts")
        for path in (folder.backbone, folder.adapter, folder.model, folder.model_weights):
            print(f"{path.name}: {path.stat().st_size:,} bytes")
        print(f"parity: {json.loads(folder.parity.read_text())['relative']:.1e} of the largest logit")
        print(f"checksum of {folder.model.name}: {steps['predict']['checksum_ms']:.0f} ms")
        print(f"one image: {steps['export']['latency_ms']:.0f} ms; images classified: {steps['predict']['images']}")


if __name__ == "__main__":
    main()
