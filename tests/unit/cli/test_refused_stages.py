"""What stages refuse: checkpoints, params, devices, data that have changed, folders that cannot be written."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mite
import pytest
import small_project
import torch
from small_project import failure, run_stages, snapshot

from adaptformer.cli import stages
from adaptformer.config.run_folder import RunFolder


class Runs:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("it ran",)


def hostile(project: Path) -> dict[str, Any]:
    torch.save({"model": mite.encoder(), "args": Runs()}, project / "hostile.pth")
    return {"backbone__checkpoint": "hostile.pth"}


def wrong_hash(project: Path) -> dict[str, Any]:
    return {"backbone__sha256": "0" * 64}


def wrong_shapes(project: Path) -> dict[str, Any]:
    torch.save({"model": {**mite.encoder(), "norm.bias": torch.ones(24)}}, project / "shapes.pth")
    return {"backbone__checkpoint": "shapes.pth"}


def missing_tensors(project: Path) -> dict[str, Any]:
    some = {name: tensor for name, tensor in mite.encoder().items() if not name.startswith("blocks.1")}
    torch.save({"model": some}, project / "some.pth")
    return {"backbone__checkpoint": "some.pth"}


def truncated(project: Path) -> dict[str, Any]:
    (project / "mite.safetensors").write_bytes((project / "mite.safetensors").read_bytes()[:-100])
    return {}


def absent(project: Path) -> dict[str, Any]:
    return {"backbone__checkpoint": "nothing.pth"}


def licence(project: Path) -> dict[str, Any]:
    return {"backbone__allowed_licences": ["apache-2.0"]}


def no_such_model(project: Path) -> dict[str, Any]:
    return {"backbone__model": "vit_bse_patch16_224"}


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (hostile, r"hostile\.pth was not opened: it would run code when unpickled"),
        (wrong_hash, r"mite\.safetensors has sha256 [0-9a-f]{64}, not backbone\.sha256 = 0{64}"),
        (wrong_shapes, r"another shape for norm\.bias \(24,\) instead of \(12,\)"),
        (missing_tensors, r"the checkpoint lacks blocks\.1\.\S+, blocks\.1\.\S+, blocks\.1\.\S+ and 9 more"),
        (truncated, r"mite\.safetensors is damaged"),
        (absent, r"backbone\.checkpoint = nothing\.pth is neither a file"),
        (licence, r"mite\.safetensors has the licence MIT, which backbone\.allowed_licences does not list"),
        (no_such_model, r"vit_bse_patch16_224 is no architecture"),
    ],
)
def test_a_bad_checkpoint_is_refused_and_the_one_from_before_stays(
    project: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], dict[str, Any]], expected: str
) -> None:
    run_stages("fetch")
    small_project.write_params(project, **spoil(project))
    before = snapshot(project)
    assert re.search(expected, failure(capsys, "fetch")[0])
    assert snapshot(project) == before
    assert not Path("it ran").exists()


@pytest.mark.parametrize(
    ("key", "value", "cause", "remedy"),
    [
        ("training.epoch", 3, "params.yaml has an unknown key training.epoch", "did you mean training.epochs?"),
        ("training.momentum", 2, "training.momentum = 2 in params.yaml", "correct training.momentum"),
    ],
)
def test_bad_params_stop_a_stage_before_anything_is_written(
    project: Path, capsys: pytest.CaptureFixture[str], key: str, value: object, cause: str, remedy: str
) -> None:
    small_project.write_params(project, **{key.replace(".", "__"): value})
    before = snapshot(project)
    told = failure(capsys, "validate")
    assert told[0].startswith(cause)
    assert told[1].startswith(remedy)
    assert snapshot(project) == before
    assert not (project / "artifacts").exists()


@pytest.mark.parametrize("now", [b"changed", None])
def test_data_that_changed_since_validation_stop_training(
    project: Path, capsys: pytest.CaptureFixture[str], now: bytes | None
) -> None:
    (project / ".dvc").mkdir()  # without DVC, the run folder's own record notices it
    (project / "dvc.yaml").touch()
    run_stages("validate", "fetch")
    image = project / "data/train/blue/01.png"
    image.unlink()
    if now:
        image.write_bytes(now)
    before = snapshot(project)
    cause, remedy = failure(capsys, "train")
    assert cause.startswith("data/ has changed since the manifest was written: data/train/blue/01.png")
    assert "dvc add data" in remedy
    assert snapshot(project) == before


def test_an_image_size_that_the_patches_do_not_divide_is_refused(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_project.write_params(project, image__size=9)
    run_stages("validate", "fetch")
    before = snapshot(project)
    assert failure(capsys, "train") == (
        f"image.size = 9 is not a multiple of the patch size 4 of {mite.MODEL}", "set image.size to 8",
    )  # fmt: skip
    assert snapshot(project) == before


def test_training_that_diverges_is_an_error_that_names_the_learning_rate(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_project.write_params(project, training__base_lr=1e30, training__warmup_fraction=0)
    run_stages("validate", "fetch")
    cause, remedy = failure(capsys, "train")
    assert cause.startswith("training diverged in epoch 1")
    assert "training.base_lr" in remedy
    assert not RunFolder().adapter.exists()


def test_cuda_without_a_device_is_refused(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    small_project.write_params(project, runtime__device="cuda")
    run_stages("validate", "fetch")
    assert failure(capsys, "train")[0].startswith("runtime.device = cuda, but torch finds no CUDA device")


@pytest.mark.parametrize("stage", stages.STAGES)
def test_a_run_folder_that_cannot_be_written_is_an_error_of_every_stage(
    project: Path, capsys: pytest.CaptureFixture[str], stage: str
) -> None:
    # A file in the folder's place stops root too, which no permission does.
    (project / "artifacts").write_text("mine")
    before = snapshot(project)
    cause, remedy = failure(capsys, stage)
    assert cause.startswith("cannot write artifacts: ")
    assert remedy.startswith("move away the file")
    assert snapshot(project) == before


def test_an_output_that_cannot_be_written_is_an_error_that_names_it(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    RunFolder().backbone.mkdir(parents=True)
    assert failure(capsys, "fetch")[0].startswith("cannot write artifacts/backbone.safetensors: ")
    assert not list(RunFolder().root.glob(".*partial*"))


def test_a_folder_in_use_names_its_user(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunFolder().lock("make run"):
        cause, _ = failure(capsys, "validate")
    assert cause.startswith(f"artifacts/ is in use by `make run` (process {os.getpid()} on ")
    assert not RunFolder().manifest.exists()
    run_stages("validate")


def test_a_failed_stage_releases_the_lock(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failure(capsys, "train")
    run_stages("validate")
