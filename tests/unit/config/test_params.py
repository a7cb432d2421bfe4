from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from adaptformer.base.errors import UserError
from adaptformer.config import params

ROOT = Path(__file__).resolve().parents[3]
ABSENT = object()


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write the project's params.yaml with dotted keys changed, added or (ABSENT) taken out."""

    def written(changes: dict[str, Any]) -> Path:
        content = yaml.safe_load((ROOT / "params.yaml").read_text())
        for key, value in changes.items():
            *sections, name = key.split(".")
            place = content[sections[0]] if sections else content
            place[name] = value
            if value is ABSENT:
                del place[name]
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return written


def refusal(path: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        params.load(path)
    assert str(caught.value).count("\n") == 1, "one line of cause, one of what to do"
    return caught.value


def test_the_projects_own_params_are_sound() -> None:
    loaded = params.load(ROOT / "params.yaml")
    assert loaded.adapter.placement == "parallel"
    assert loaded.training.epochs >= 1


def test_every_key_of_params_yaml_is_commented() -> None:
    lines = (ROOT / "params.yaml").read_text().splitlines()
    keys = [line for line in lines if line.startswith("  ") and ":" in line.partition("#")[0]]
    assert len(keys) == sum("." in key for key in params.known_keys())
    assert [line for line in keys if "#" not in line] == []


def test_values_do_not_change_afterwards(write: Callable[..., Path]) -> None:
    loaded = params.load(write({}))
    with pytest.raises(ValidationError, match="frozen"):
        loaded.training.epochs = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("training.epoch", "did you mean training.epochs?"),
        ("training.epocs", "did you mean training.epochs?"),
        ("image.interpolaton", "did you mean image.interpolation?"),
        ("tunning", "did you mean training?"),
        ("training.qqq", "take training.qqq out of "),
        ("xyz", "take xyz out of "),
    ],
)
def test_an_unknown_key_is_named_with_a_suggestion(write: Callable[..., Path], key: str, hint: str) -> None:
    error = refusal(write({key: 1}))
    assert f"has an unknown key {key}" in error.cause
    assert error.remedy.startswith(hint)


def test_a_misspelt_key_is_called_so_and_not_missing(write: Callable[..., Path]) -> None:
    error = refusal(write({"training.epochs": ABSENT, "training.epoch": 3}))
    assert error.cause.endswith("has an unknown key training.epoch (and 1 more)")
    assert error.remedy == "did you mean training.epochs?"


@pytest.mark.parametrize("key", params.known_keys())
def test_a_missing_key_is_named_whichever_it_is(write: Callable[..., Path], key: str) -> None:
    error = refusal(write({key: ABSENT}))
    assert error.cause.endswith(f"lacks the key {key}")
    assert "git diff" in error.remedy


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.validation_fraction", 0),
        ("data.validation_fraction", 1),
        ("data.test_fraction", 1.5),
        ("data.seed", -1),
        ("image.size", 4),
        ("image.size", 4096),
        ("image.resize", "stretch"),
        ("image.crop_fraction", 0),
        ("image.crop_fraction", 1.1),
        ("image.interpolation", "nearest"),
        ("backbone.model", ""),
        ("backbone.checkpoint", ""),
        ("backbone.sha256", "abc"),
        ("backbone.licence", ""),
        ("backbone.mean", [0.5, 0.5]),
        ("backbone.mean", [0.5, 0.5, 1.5]),
        ("backbone.std", [0.5, 0.5, 0]),
        ("backbone.allowed_licences", []),
        ("backbone.allowed_licences", "mit"),
        ("adapter.bottlenecks", []),
        ("adapter.bottlenecks", [0]),
        ("adapter.bottlenecks", 16),
        ("adapter.scale", "lerned"),
        ("adapter.scale", float("nan")),
        ("adapter.dropout", 1),
        ("adapter.dropout", -0.1),
        ("adapter.layernorm", "both"),
        ("adapter.placement", "before"),
        ("adapter.pooling", "max"),
        ("training.seed", -1),
        ("training.epochs", 0),
        ("training.epochs", 2.5),
        ("training.epochs", None),
        ("training.batch_size", 1),
        ("training.base_lr", 0),
        ("training.base_lr", float("inf")),
        ("training.base_lr", "fast"),
        ("training.momentum", 1),
        ("training.weight_decay", -0.1),
        ("training.warmup_fraction", -1),
        ("training.drop_path", 1),
        ("training.crop_scale", [0.5]),
        ("training.crop_scale", [0.5, 1.5]),
        ("training.crop_scale", [0, 1]),
        ("training.crop_ratio", [0, 1]),
        ("training.flip", "perhaps"),
        ("training.label_smoothing", 1),
        ("training.selection_metric", "f1"),
        ("training.precision", "fp16"),
        ("evaluation.batch_size", 0),
        ("export.opset", 17),
        ("export.opset", 24),
        ("export.external_data_mb", -1),
        ("export.external_data_mb", 2001),
        ("export.parity_images", 0),
        ("export.parity_tolerance", 0),
        ("registry.model", "a/b"),
        ("registry.model", "-a"),
        ("registry.experiment", ""),
        ("runtime.device", "gpu"),
        ("runtime.threads", -1),
        ("runtime.image_cache_gb", -1),
        ("image.jpeg_min_scale", -1),
        ("image.jpeg_min_scale", 1.5),
        ("training", None),
        ("training", [1]),
    ],
    ids=str,
)
def test_a_value_out_of_range_is_shown_with_its_key(write: Callable[..., Path], key: str, value: object) -> None:
    error = refusal(write({key: value}))
    shown = value[0] if key.endswith("bottlenecks") and value == [0] else value
    assert error.cause.startswith(f"{key} = ")
    if not isinstance(shown, list):
        assert error.cause.startswith(f"{key} = {shown!r} in ")
    assert error.remedy.startswith(f"correct {key};")


def test_each_branch_of_a_choice_is_told(write: Callable[..., Path]) -> None:
    cause = refusal(write({"adapter.scale": "lerned"})).cause
    assert "valid number" in cause
    assert "'learned'" in cause


@pytest.mark.parametrize("key", ["crop_scale", "crop_ratio"])
def test_ranges_must_rise(write: Callable[..., Path], key: str) -> None:
    cause = refusal(write({f"training.{key}": [1.0, 0.5]})).cause
    assert cause.startswith("training in "), "the whole section is no value to show"
    assert cause.endswith(f"{key} must be [low, high], not [1.0, 0.5]")
    assert getattr(params.load(write({f"training.{key}": [0.5, 0.5]})).training, key) == (0.5, 0.5)


def test_a_mean_without_a_standard_deviation_is_refused(write: Callable[..., Path]) -> None:
    for key in ("mean", "std"):
        assert refusal(write({f"backbone.{key}": [0.5, 0.5, 0.5]})).cause.endswith("give both, or null for both")
    both = {"backbone.mean": [0.5, 0.4, 0.3], "backbone.std": [0.1, 0.2, 0.3]}
    assert params.load(write(both)).backbone.mean == (0.5, 0.4, 0.3)


def test_several_faults_are_counted_by_key(write: Callable[..., Path]) -> None:
    error = refusal(write({"training.epochs": 0, "training.momentum": 2, "adapter.scale": "lerned"}))
    assert error.cause.endswith("(and 2 more)")


@pytest.mark.parametrize("key", ["training.base_lr", "adapter.scale", "export.parity_tolerance"])
def test_1e_3_which_yaml_reads_as_a_text_is_the_number_all_the_same(write: Callable[..., Path], key: str) -> None:
    path = write({key: "REPLACED"})
    path.write_text(path.read_text().replace("REPLACED", "1e-3"))
    section, name = key.split(".")
    assert yaml.safe_load(path.read_text())[section][name] == "1e-3"
    assert getattr(getattr(params.load(path), section), name) == 0.001


@pytest.mark.parametrize(
    "content", ["data: [", "\t", "data: {a: 1}\n  b: 2\n", "a: !!python/object/apply:os.getcwd []"]
)
def test_malformed_yaml_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "params.yaml").write_text(content)
    error = refusal(tmp_path / "params.yaml")
    assert "params.yaml cannot be read: " in error.cause
    assert "git diff" in error.remedy


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in refusal(tmp_path / "params.yaml").cause


@pytest.mark.parametrize("content", ["", "# nothing but a comment\n", "- a\n- b\n", "text"])
def test_a_file_without_sections_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "params.yaml").write_text(content)
    assert "holds no sections" in refusal(tmp_path / "params.yaml").cause


def test_a_missing_file_is_told_with_where_it_should_be(tmp_path: Path) -> None:
    error = refusal(tmp_path / "params.yaml")
    assert error.cause == f"there is no {tmp_path}/params.yaml"
    assert "adaptformer init" in error.remedy


def test_what_decides_results_leaves_registry_and_runtime_out(write: Callable[..., Path]) -> None:
    loaded = params.load(write({}))
    decisive = params.tracked(loaded)
    assert set(decisive) == {"data", "checks", "image", "backbone", "adapter", "training", "evaluation", "export"}
    assert decisive["adapter"]["bottlenecks"] == list(loaded.adapter.bottlenecks), "plain values, as JSON has them"
