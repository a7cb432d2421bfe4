"""A checkout in miniature: params.yaml, data/ with three classes of coloured squares, the mite's checkpoint."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import mite
import pytest
import yaml
from PIL import Image

from adaptformer.__main__ import main
from adaptformer.config.run_folder import RunFolder
from adaptformer.pipeline.stages import STAGES

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {
    "checks.small": "none",
    "checks.few_images": "none",
    "image.size": mite.SIDE,
    "image.crop_fraction": 1.0,
    "backbone.model": mite.MODEL,
    "backbone.checkpoint": "mite.safetensors",
    "adapter.bottlenecks": [4],
    "adapter.scale": 0.1,
    "adapter.dropout": 0.1,
    "adapter.layernorm": "none",
    "adapter.placement": "parallel",
    "adapter.pooling": "mean",
    "training.epochs": 2,
    "training.batch_size": 6,
    "training.base_lr": 4.0,
    "training.warmup_fraction": 0.5,
    "training.selection_metric": "top1",
    "training.precision": "fp32",
    "registry.model": "squares",
    "runtime.device": "cpu",
    "runtime.threads": 1,
}


def write_params(root: Path, **changes: Any) -> None:
    """Write the project's own params.yaml, made small; `changes` have two underscores for the dot."""
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    dotted = {name.replace("__", "."): value for name, value in changes.items()}
    for key, value in (SETTINGS | dotted).items():
        section, _, name = key.partition(".")
        content[section][name] = value
    (root / "params.yaml").write_text(yaml.safe_dump(content))


def write(root: Path, **changes: Any) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    write_params(root, **changes)
    mite.write_backbone(root / "mite.safetensors")
    for split, per_class, seed in (("train", 7, 0), ("test", 3, 1)):
        for i, (pixels, label) in enumerate(zip(*mite.pixels_and_labels(per_class, seed, side=10), strict=True)):
            path = root / "data" / split / mite.CLASSES[label] / f"{i:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return root


def adaptformer(*arguments: str) -> int:
    """The command line, in the current folder."""
    return main(list(arguments))


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    """Run a command that must fail, and return its two lines of cause and remedy."""
    capsys.readouterr()
    assert adaptformer(*arguments) == 1
    told = capsys.readouterr()
    match = re.fullmatch(r"error: (.+)\n  fix: (.+)\n", told.err)
    assert match, f"not two lines: {told.err!r}"
    assert told.out == ""
    return match[1], match[2]


def run_stages(*names: str) -> None:
    for name in names or STAGES:
        assert adaptformer(name) == 0, name


def leave_pictures_blank(patch: pytest.MonkeyPatch) -> None:
    """Let every figure be a file of one pixel: drawing takes most of the time of `train` and `evaluate`."""

    def save(_figure: object, file: Any, **_options: object) -> None:
        Image.new("RGB", (1, 1)).save(file, "PNG")

    patch.setattr("matplotlib.figure.Figure.savefig", save)


def forget(stage: str) -> None:
    """Let a stage run again although nothing that its result depends on has changed."""
    RunFolder().done(stage).unlink()


def results(root: Path) -> dict[str, bytes]:
    """The bytes of every file that a stage hands on."""
    folder = RunFolder(root / "artifacts")
    paths = [getattr(folder, name) for stage in STAGES.values() for name in stage.outputs]
    return {path.relative_to(folder.root).as_posix(): path.read_bytes() for path in paths if path.exists()}


def snapshot(root: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes, but for locks, facts of files that were read, and marks of stages."""
    files = (path for path in root.rglob("*") if path.is_file() and path.name not in {".lock", "facts.safetensors"})
    results = (path for path in files if not path.name.endswith(".unfinished.json"))
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in results}
