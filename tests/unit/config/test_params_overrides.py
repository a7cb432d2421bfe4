from __future__ import annotations

from pathlib import Path

import pytest

from adaptformer.base.errors import UserError
from adaptformer.config import params

FILE = Path(__file__).resolve().parents[3] / "params.yaml"


def refusal(overrides: dict[str, object]) -> UserError:
    with pytest.raises(UserError) as caught:
        params.load(FILE, overrides)
    return caught.value


def test_an_override_takes_the_place_of_its_key_and_of_nothing_else() -> None:
    present = params.load(FILE)
    wanted = params.load(FILE, {"training.epochs": 3, "adapter.bottlenecks": [64, 8]})
    assert (wanted.training.epochs, wanted.adapter.bottlenecks) == (3, (64, 8))
    assert params.difference(present, wanted) == {"training.epochs": 3, "adapter.bottlenecks": [64, 8]}
    assert params.difference(present, params.load(FILE, {})) == {}


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("training.epochs=3", 3),
        ("adapter.bottlenecks=[64]", [64]),
        ("adapter.bottlenecks=[16, 8]", [16, 8]),
        ("training.flip=true", True),
        ("backbone.sha256=null", None),
        ("adapter.scale=0.1", 0.1),
        ("backbone.checkpoint=a=b.pth", "a=b.pth"),
    ],
)
def test_the_command_line_reads_values_as_the_file_does(argument: str, value: object) -> None:
    assert params.parse_overrides([argument]) == {argument.partition("=")[0]: value}


def test_each_door_means_the_same() -> None:
    typed = params.load(FILE, params.parse_overrides(["training.base_lr=1e-3", "training.epochs=3"]))
    assert typed == params.load(FILE, {"training.base_lr": 0.001, "training.epochs": 3})


def test_the_last_of_a_key_counts() -> None:
    assert params.parse_overrides(["training.epochs=3", "training.epochs=4"]) == {"training.epochs": 4}


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        ("training.epoch", "did you mean training.epochs?"),
        ("tunning.epochs", "did you mean training.epochs?"),
        ("epochs", "did you mean training.epochs?"),
        ("adapter.epochs", "did you mean training.epochs?"),
        ("training", "section.key"),
        ("qqq.zzz", "section.key"),
        ("", "section.key"),
        ("training.epochs.x", "did you mean training.epochs?"),
    ],
)
def test_an_unknown_override_is_named_with_a_suggestion(key: str, suggestion: str) -> None:
    error = refusal({key: 1})
    assert error.cause == f"the override {key or '(empty)'} is no key of params.yaml"
    assert suggestion in error.remedy


def test_a_value_out_of_range_names_the_override_and_not_the_file() -> None:
    error = refusal({"training.epochs": 0})
    assert error.cause.startswith("training.epochs = 0 in the overrides: ")
    assert error.remedy.startswith("correct training.epochs;")


def test_a_fault_of_the_file_is_not_laid_on_the_overrides(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(FILE.read_text().replace("  flip:", "  flop:"))
    with pytest.raises(UserError, match=r"unknown key training\.flop") as caught:
        params.load(path, {"training.epochs": 3})
    assert str(path) in caught.value.cause


@pytest.mark.parametrize("argument", ["training.epochs", "adapter.bottlenecks=[1", "training.epochs=: :"])
def test_an_argument_that_is_no_override_is_refused(argument: str) -> None:
    with pytest.raises(UserError, match="the override"):
        params.parse_overrides([argument])


@pytest.mark.parametrize(
    "value",
    [
        3,
        0.1,
        1e-05,
        1e16,
        True,
        None,
        "mean",
        "3",
        "null",
        "a: b",
        "it's",
        "",
        "é",
        [16, 8],
        ["mit", "a, b"],
        [0.5, 1.0],
    ],
)
def test_an_override_that_is_written_is_read_as_the_same_value(value: object) -> None:
    written = params.as_override("section.key", value)
    assert "\n" not in written
    assert params.parse_overrides([written]) == {"section.key": value}


def test_a_file_that_changes_after_it_was_read_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(FILE.read_bytes())
    file = params.read(path)
    file.require_unchanged()
    path.write_bytes(path.read_bytes() + b"# a comment\n")
    with pytest.raises(UserError, match=r"params\.yaml changed while it was in use"):
        file.require_unchanged()
    path.unlink()
    with pytest.raises(UserError, match="changed while it was in use"):
        file.require_unchanged()


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        ("1" * 5000, "a whole number has more than 64 bits"),
        ("1e999", "a number is too large"),
        ("[" * 5000, "nested more than 20 deep"),
        ("&a [*a]", "anchors"),
        ("!!timestamp 2026-11-29", "the tag"),
        ("{epochs: 1, epochs: 2}", "the key epochs stands twice"),
        ("{1: 2, a: 3}", "a key is no text"),
        ('"\\UFFFFFFFF"', "cannot be read"),
        ("\udcff", "cannot be read"),
        ("a\n---\nb", "another document"),
    ],
)
def test_a_value_that_is_no_yaml_of_params_is_one_error(value: str, cause: str) -> None:
    with pytest.raises(UserError, match=cause) as caught:
        params.parse_overrides([f"training.epochs={value}"])
    assert len(caught.value.cause) < 500


@pytest.mark.parametrize(
    "argument",
    [
        "training.epochs=true",
        "training.base_lr=true",
        "adapter.bottlenecks=[true]",
        "adapter.scale=true",
        "training.warmup_steps=false",
        "training.base_lr=.nan",
        "training.base_lr=.inf",
        "training.epochs=2026-11-29",
        "data.date=12:30",
        'data.name="\\0"',
        'data.name="\\ud800"',
        "data.name=[" + "1, " * 5000 + "]",
        "data.name={a: 1}",
        "registry=3",
        "data.group_pattern=a{99999999999999}",
        "data.group_pattern=" + "(" * 5000,
    ],
)
def test_a_value_of_another_kind_is_one_short_error(argument: str) -> None:
    error = refusal(params.parse_overrides([argument]))
    assert len(str(error)) < 800


def test_dates_are_texts() -> None:
    assert params.load(FILE, params.parse_overrides(["data.date=2026-11-29"])).data.date == "2026-11-29"


def test_a_key_from_python_that_is_no_text_is_refused() -> None:
    assert refusal({3: 4}).cause == "the override 3 is no key of params.yaml"  # type: ignore[dict-item]


def test_a_duplicate_key_is_an_error_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(FILE.read_text().replace("  epochs: ", "  epochs: 1\n  epochs: ", 1))
    with pytest.raises(UserError, match="the key epochs stands twice"):
        params.read(path)
