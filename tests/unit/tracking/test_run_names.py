"""The name of a run shows in which values it differs from the commit's params.yaml."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import small_project

from adaptformer.config import params
from adaptformer.tracking import run_names


def git(*words: str) -> None:
    who = ["-c", "user.name=Someone", "-c", "user.email=someone@example.org"]
    subprocess.run(["git", *who, *words], check=True)


@pytest.fixture
def committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in a subfolder of a repository, whose params.yaml is committed."""
    root = tmp_path / "repository/project"
    root.mkdir(parents=True)
    monkeypatch.chdir(root)
    small_project.write_params(root)
    git("init", "--quiet", "..")
    git("add", "params.yaml")
    git("commit", "--quiet", "-m", "a commit")
    return root


def name(**overrides: object) -> str:
    """Return the values and the label in a run's name, without model and commit."""
    file = params.read()
    first, _, rest = run_names.of(file.replaced({k.replace("__", "."): v for k, v in overrides.items()})).partition(" ")
    assert first.startswith("squares-")
    assert len(first) == len("squares-12345678")
    return rest


def test_a_run_as_committed_is_named_by_model_and_commit_alone(committed: Path) -> None:
    assert name() == ""


def test_a_run_is_named_by_overrides_and_by_edits_of_the_file(committed: Path) -> None:
    assert name(training__epochs=77, adapter__bottlenecks=[3, 3]) == "adapter.bottlenecks=[3, 3] training.epochs=77"
    small_project.write_params(committed, training__base_lr=0.125)
    assert name() == "training.base_lr=0.125"
    assert name(training__epochs=77) == "training.epochs=77 training.base_lr=0.125"


def test_values_that_change_no_result_are_no_part_of_the_name(committed: Path) -> None:
    assert name(runtime__threads=1, gate__margin=0.5, data__name="photos", data__date="2026-11-30") == ""


def test_a_long_list_of_values_is_cut(committed: Path) -> None:
    many = {
        f"checks__{key}": "none" for key in ("leaks", "label_conflicts", "duplicates", "constant", "dark", "bright")
    }
    assert name(**many).startswith("checks.leaks=none checks.label_conflicts=none ")
    assert name(**many).endswith("and 2 more")
    assert name(data__group_pattern="x" * 200) == "with other values"


def test_a_label_takes_the_place_of_the_values(committed: Path) -> None:
    changed = params.read().replaced({"training.epochs": 77})
    assert run_names.of(changed, "linear, seed 1").partition(" ")[2] == "linear, seed 1"


def test_without_a_commit_a_run_is_named_by_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small_project.write_params(tmp_path)
    assert run_names.of(params.load(overrides={"training.epochs": 77})) == "squares-none"
