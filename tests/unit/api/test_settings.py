"""A backbone by its short name, and the one source of the defaults."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import adaptformer as af
from adaptformer.api import settings
from adaptformer.api.backbone_names import short_names
from adaptformer.backbones import catalogue
from adaptformer.config import params
from adaptformer.project import contents

ROOT = Path(__file__).resolve().parents[3]


def test_without_a_backbone_the_values_are_those_of_params_yaml() -> None:
    assert settings.resolved().params() == params.load(ROOT / "params.yaml")


@pytest.mark.parametrize(
    ("name", "model", "checkpoint", "size"),
    [
        ("bundled", "vit_nano_patch4_32", "bundled", 32),
        ("vit_nano_patch4_32", "vit_nano_patch4_32", "bundled", 32),
        ("dinov2-small", "vit_small_patch14_dinov2.lvd142m", "dinov2_vit_small", 224),
        ("DINOv2-Small", "vit_small_patch14_dinov2.lvd142m", "dinov2_vit_small", 224),
        ("mae_vit_base", "vit_base_patch16_224.mae", "mae_vit_base", 224),
        ("augreg-vit-base", "vit_base_patch16_224.augreg2_in21k_ft_in1k", "augreg_vit_base", 224),
        ("hub:timm/vit_x.y@c0ffee", "vit_x.y", "hub:timm/vit_x.y@c0ffee", 224),
    ],
)
def test_a_name_chooses_architecture_checkpoint_and_image_size(
    name: str, model: str, checkpoint: str, size: int
) -> None:
    wanted = settings.resolved(name).params()
    assert (wanted.backbone.model, wanted.backbone.checkpoint, wanted.image.size) == (model, checkpoint, size)
    if size == 224:  # with the recipe of the preset for photos
        assert (wanted.training.optimiser, wanted.training.flip) == ("adamw", True)


def test_every_checkpoint_has_a_short_name_of_its_own() -> None:
    names = short_names()
    assert len(set(names)) == len(catalogue.ENTRIES)
    for name, entry in zip(names, catalogue.ENTRIES, strict=True):
        assert settings.resolved(name).params().backbone.checkpoint == entry.id


def test_a_file_needs_its_architecture() -> None:
    with pytest.raises(af.UserError, match="does not tell its architecture"):
        settings.resolved("file:weights.pth")
    wanted = settings.resolved("file:weights.pth", overrides={"backbone.model": "vit_base_patch16_224.mae"}).params()
    assert (wanted.backbone.model, wanted.backbone.checkpoint) == ("vit_base_patch16_224.mae", "weights.pth")


def test_an_unknown_name_is_refused_with_the_closest_one() -> None:
    with pytest.raises(af.UserError, match="there is no backbone dinov2-smal") as refused:
        settings.resolved("dinov2-smal")
    assert refused.value.remedy == "did you mean dinov2-small?"


def test_the_call_counts_more_than_presets_and_they_more_than_the_backbone() -> None:
    wanted = settings.resolved("dinov2-small", 3, {"image.size": 98}, ["linear"]).params({"data.name": "pets"})
    assert (wanted.adapter.method, wanted.training.epochs, wanted.image.size) == ("linear", 3, 98)
    assert wanted.data.name == "pets"
    with pytest.raises(af.UserError, match="contradict"):
        settings.resolved(epochs=3, overrides={"training.epochs": 4})


def test_the_wheel_has_the_defaults_of_the_one_file(tmp_path: Path) -> None:
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", *contents.FILES.values()):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for name in ("__init__.py", "project"):  # enough to see where the files go
        place = ROOT / "adaptformer" / name
        target = tmp_path / "adaptformer" / name
        target.parent.mkdir(exist_ok=True)
        if place.is_dir():
            shutil.copytree(place, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(place, target)
    command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", "built"]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    built = tmp_path / "built/adaptformer/project"
    for name in contents.FILES.values():
        assert (built / "root" / name).read_bytes() == (ROOT / name).read_bytes()
    assert (built / "README.md").is_file()
    assert settings.defaults() == ROOT / "params.yaml"
