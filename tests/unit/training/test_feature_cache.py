"""A probe's features, which later runs find."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import mite
import pytest
import small_project
import torch
from small_project import adaptformer
from small_runs import run, training_params

from adaptformer.base.errors import UserError
from adaptformer.config.params import TrainingParams
from adaptformer.config.run_folder import RunFolder
from adaptformer.model import device
from adaptformer.pipeline import stage_runner
from adaptformer.training import feature_cache, loop
from adaptformer.training.feature_cache import FeatureCache
from adaptformer.training.run import Run

CPU = torch.device("cpu")


def probe(folder: Path, **changes: Any) -> Run:
    """A run on fixed views, whose fingerprint names its settings as that of a stage does."""
    settings = {"model": {"method": "linear"}, "fixed_crops": 2, "flip": False, **changes}
    training = training_params(
        **{name: value for name, value in settings.items() if name in TrainingParams.model_fields}
    )
    fingerprint = {"training": training.model_dump(mode="json"), "backbone": "abc"}
    return run(folder, **{"fingerprint": fingerprint, "features": folder / "features", **settings})


def seen_in_training(made: Run) -> int:
    """Train, and return how many images went through the backbone."""
    seen: list[int] = []
    made.model.vit.blocks[0].norm1.register_forward_hook(lambda _, given, result: seen.append(len(result)))
    loop.train(made)
    return sum(seen)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_another_rate_finds_them_and_trains_as_if_it_had_computed_them(tmp_path: Path, precision: str) -> None:
    assert seen_in_training(probe(tmp_path, precision=precision)) > 0
    (stored,) = (tmp_path / "features").iterdir()
    other = {"precision": precision, "base_lr": 1.0, "epochs": 4, "batch_size": 4, "class_balance": "sampler"}
    again, alone = (probe(folder, **other) for folder in (tmp_path, tmp_path / "alone"))
    seen: list[int] = []
    again.model.vit.blocks[0].norm1.register_forward_hook(lambda _, given, result: seen.append(len(result)))
    assert loop.train(again) == loop.train(alone)
    assert seen == []
    assert mite.tuned_hash(again.model) == mite.tuned_hash(alone.model)
    assert list((tmp_path / "features").iterdir()) == [stored]


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"fixed_crops": 1},
        {"flip": True},
        {"crop_scale": (0.5, 1.0)},
        {"crop_ratio": (1.0, 1.0)},
        {"head_statistics": "running"},
        {"statistics_fraction": 0.5},
        {"fingerprint": {"training": {}, "backbone": "another"}},
    ],
    ids=str,
)
def test_what_decides_them_has_features_of_its_own(tmp_path: Path, changes: dict[str, Any]) -> None:
    seen_in_training(probe(tmp_path))
    assert seen_in_training(probe(tmp_path, **changes)) > 0
    assert len(list((tmp_path / "features").iterdir())) == 2


def test_every_setting_either_acts_later_or_decides_them() -> None:
    decide = {
        "seed", "head_statistics", "statistics_fraction", "drop_path", "crop_scale", "crop_ratio", "flip",
        "fixed_crops", "precision",
    }  # fmt: skip
    assert set(TrainingParams.model_fields) - decide == feature_cache._ACT_LATER


def test_other_rounding_has_features_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def place() -> Path:
        return feature_cache.of_run(tmp_path, {"training": {}}, CPU, 1.0).path

    before = place()
    assert place() == before
    monkeypatch.setattr(device, "rounding", lambda _: ["cpu", "another", 1])
    assert place() != before


@pytest.mark.parametrize(
    "changes", [{"model": {}}, {"model": {}, "schedule": "layerwise"}, {"fixed_crops": 0}], ids=str
)
def test_nothing_is_stored_where_more_than_the_head_trains_or_crops_are_new(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    loop.train(probe(tmp_path, **{"epochs": 1, **changes}))
    assert not (tmp_path / "features").exists()


def test_a_damaged_file_is_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    seen_in_training(probe(tmp_path))
    (stored,) = (tmp_path / "features").iterdir()
    whole = stored.read_bytes()
    stored.write_bytes(whole[:-8])
    assert seen_in_training(probe(tmp_path, base_lr=1.0)) > 0
    assert f"{stored} is damaged: the features are computed again" in caplog.messages
    assert stored.read_bytes() == whole


def features(count: int) -> dict[str, torch.Tensor]:
    return {"train": torch.zeros(count, 1, 250)}  # a kilobyte each


def test_other_shapes_are_not_taken(tmp_path: Path) -> None:
    stored = FeatureCache(tmp_path / "a.safetensors", 1.0)
    stored.write(features(3))
    assert stored.read({"train": torch.Size([4, 1, 250])}) is None
    assert stored.read({"train": torch.Size([3, 1, 250]), "validation": torch.Size([3, 1, 250])}) is None
    found = stored.read({"train": torch.Size([3, 1, 250])})
    assert found is not None
    assert torch.equal(found["train"], features(3)["train"])


def test_features_unused_for_longest_are_removed_for_new_ones(tmp_path: Path) -> None:
    places = [FeatureCache(tmp_path / f"{name}.safetensors", 4.5e-6) for name in "abcd"]
    for second, place in enumerate(places[:3]):
        place.write(features(1))
        os.utime(place.path, (second, second))
    assert places[0].read({"train": torch.Size([1, 1, 250])})  # used now
    places[3].write(features(1))
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["a", "c", "d"]


def test_a_full_disk_costs_the_reuse_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise UserError("cannot write it: No space left on device", "free space")

    monkeypatch.setattr(feature_cache.tensor_file, "write", full)
    FeatureCache(tmp_path / "a.safetensors", 1.0).write(features(1))
    assert caplog.messages == ["the features are not kept for later runs: cannot write it: No space left on device"]


@pytest.mark.usefixtures("blank_pictures")
def test_probes_of_one_checkout_share_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(small_project.write(tmp_path, adapter__method="linear", training__fixed_crops=1))
    caplog.set_level("INFO")
    for stage in ("validate", "fetch", "train"):
        assert adaptformer(stage) == 0
    assert "from an earlier run" not in caplog.text
    assert "features_from_earlier_run" not in stage_runner.read_timing(RunFolder(), "train")
    for stage in ("validate", "fetch", "train"):
        assert adaptformer(stage, "training.base_lr=0.5") == 0
    (stored,) = (tmp_path / "artifacts/cache/probe_features").iterdir()
    assert f"the features of all images are from an earlier run ({stored.relative_to(tmp_path)})" in caplog.messages
    (second,) = (tmp_path / "artifacts/runs").iterdir()
    assert stage_runner.read_timing(RunFolder(second), "train")["features_from_earlier_run"]
