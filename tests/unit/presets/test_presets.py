from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import small_project
import yaml
from setuptools import find_packages
from small_project import adaptformer

from adaptformer import presets
from adaptformer.backbones import catalogue
from adaptformer.base.errors import UserError
from adaptformer.config import params
from adaptformer.presets import writing

ROOT = Path(__file__).resolve().parents[3]
FILE = ROOT / "params.yaml"
DATA = [name for name, path in presets.available().items() if path.parent.name == "data"]
BACKBONES = [name for name, path in presets.available().items() if path.parent.name == "backbone"]
STARTS = [name for name, path in presets.available().items() if path.parent.name == "start"]
RECIPES = [name for name, path in presets.available().items() if path.parent.name == "recipe"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "params.yaml").write_text(FILE.read_text())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_presets_are_there() -> None:
    assert {"cifar100", "svhn", "food101", "flowers102", "imagenet"} <= set(DATA)
    assert {"adaptformer-64", "adaptformer-4"} <= set(RECIPES)
    assert set(STARTS) == {"photos", "photos-small", "dinov2"}
    assert set(presets.KINDS) == {path.parent.name for path in presets.available().values()}


def test_presets_are_in_the_wheel() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = find_packages(ROOT, include=settings["packages"]["find"]["include"])
    assert "adaptformer.presets" in found
    assert not {"flows", "tasks", "tests"} & set(found)
    library = ROOT / "adaptformer"
    packed = {path for pattern in settings["package-data"]["adaptformer"] for path in library.glob(pattern)}
    assert set(presets.available().values()) <= packed


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("data", DATA)
def test_every_pair_combines_whatever_the_order(data: str, recipe: str) -> None:
    wanted = params.load(FILE, presets.overlay([data, recipe]))
    assert wanted == params.load(FILE, presets.overlay([recipe, data]))
    assert wanted.registry.model == data
    assert wanted.image.size == 224


@pytest.mark.parametrize("name", [*BACKBONES, *STARTS])
def test_a_backbone_is_an_entry_of_the_catalogue_with_its_hash_licence_and_a_fitting_image_size(name: str) -> None:
    claims = {"backbone.licence": "mine", "backbone.mean": [0.5] * 3, "backbone.std": [0.5] * 3}
    wanted = params.load(FILE, {"backbone.sha256": "0" * 64, **claims, **presets.overlay([name])})
    backbone = wanted.backbone
    entry = catalogue.find(backbone.checkpoint)
    assert entry is not None
    assert entry.model == backbone.model
    assert (backbone.sha256, backbone.licence, backbone.mean, backbone.std) == (None, None, None, None)
    assert wanted.image.size % entry.patch == 0
    catalogue.allow(entry.licence, backbone.allowed_licences, name)


def test_one_backbone_is_for_commercial_use_and_refuses_what_is_not() -> None:
    backbone = params.load(FILE, presets.overlay(["augreg-vit-base"])).backbone
    entry = catalogue.find(backbone.checkpoint)
    assert entry is not None
    assert entry.commercial_use
    with pytest.raises(UserError, match="cc-by-nc"):
        catalogue.allow("cc-by-nc-4.0", backbone.allowed_licences, "MAE")


@pytest.mark.parametrize("name", presets.available())
def test_each_begins_with_what_it_reaches_and_a_command_that_names_it(name: str) -> None:
    text = presets.available()[name].read_text()
    comment = text[: re.search("^[^#]", text, re.MULTILINE).start()]  # type: ignore[union-attr]
    assert re.search(r"^# Reaches: (not verified|.*published)", comment, re.MULTILINE)
    assert "arXiv:" in comment or "not verified" in comment
    assert re.search(rf"^#   adaptformer train .*--preset {name}( |$)", comment, re.MULTILINE)


def test_digits_are_not_mirrored() -> None:
    assert not params.load(FILE, presets.overlay(["adaptformer-64", "svhn"])).training.flip


@pytest.mark.parametrize(("name", "hint"), [("cifar", "did you mean cifar100?"), ("zzzz", "there are dinov2, ")])
def test_an_unknown_preset_is_answered_with_a_suggestion(name: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        presets.overlay(["svhn", name])
    assert caught.value.cause == f"there is no preset {name}"
    assert caught.value.remedy.startswith(hint)


def test_overrides_come_after_presets_and_later_presets_after_earlier(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert adaptformer("params", "--preset", "adaptformer-64", "--preset", "adaptformer-4", "training.epochs=7") == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert (shown["adapter"]["bottlenecks"], shown["training"]["epochs"]) == ([4], 7)
    assert (project / "params.yaml").read_text() == FILE.read_text()


def test_what_is_shown_differs_in_the_values_alone(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert adaptformer("params") == 0
    assert capsys.readouterr().out == FILE.read_text()
    assert adaptformer("params", "--preset", "cifar100", "--preset", "adaptformer-64") == 0
    shown, text = capsys.readouterr().out, FILE.read_text()
    comments = [line.partition("#")[2] for line in text.splitlines()]
    assert [line.partition("#")[2] for line in shown.splitlines()] == comments
    values = {**presets.overlay(["cifar100", "adaptformer-64"])}
    assert params.flat(yaml.safe_load(shown)) == {**params.flat(yaml.safe_load(text)), **values}


def test_what_is_written_is_listed_with_the_value_before(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert adaptformer("params", "training.epochs=7", "adapter.bottlenecks=[8, 4]", "training.seed=0", "--write") == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["params.yaml:", "2 values changed"],
        ["adapter.bottlenecks", "[16]  ->  [8, 4]"],
        ["training.epochs", "12    ->  7"],
    ]


def test_written_params_are_what_the_presets_meant(project: Path) -> None:
    wanted = params.load(overrides=presets.overlay(["flowers102", "adaptformer-4"]))
    assert adaptformer("params", "--preset", "flowers102", "--preset", "adaptformer-4", "--write") == 0
    assert params.load() == wanted
    assert (project / "params.yaml").read_text().startswith(FILE.read_text().splitlines()[0])
    assert [path.name for path in project.iterdir()] == ["params.yaml"]


def test_a_fault_leaves_the_file_alone(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert adaptformer("params", "--write", "training.epochs=0") == 1
    assert (project / "params.yaml").read_text() == FILE.read_text()


@pytest.mark.parametrize("value", [None, 1e-7, "1.0", [1, 2], True, "a # b: c"])
def test_any_value_is_read_back_as_it_was(value: object) -> None:
    text = writing.changed("backbone:\n  sha256: x   # of the file\n  other: null\n", {"backbone.sha256": value})
    assert "# of the file" in text
    read = yaml.safe_load(text)["backbone"]
    assert read["other"] is None
    assert "other: null" in text
    assert (float(read["sha256"]) if isinstance(value, float) else read["sha256"]) == value


@pytest.mark.parametrize("key", ["comparison.overrides", "comparison.methods", "comparison.seeds"])
def test_an_emptied_list_of_params_yaml_is_read_back(key: str) -> None:
    section, _, name = key.partition(".")
    before = FILE.read_text(encoding="utf-8")
    after = writing.changed(before, {key: []})
    assert yaml.safe_load(after) == {**yaml.safe_load(before), section: {**yaml.safe_load(before)[section], name: []}}
    assert after.count("#") == before.count("#")


def test_a_stage_takes_presets_and_its_advice_repeats_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(small_project.write(tmp_path / "project"))
    assert adaptformer("train", "--preset", "adaptformer-4", "training.epochs=1") == 1
    assert "run `adaptformer validate --preset adaptformer-4 training.epochs=1` first" in capsys.readouterr().err
