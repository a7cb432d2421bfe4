from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from PIL import Image

from adaptformer.sweeps import results
from adaptformer.sweeps.study import Result


def result(number: int, score: float | None, state: str = "complete", reason: str = "") -> Result:
    values = {"training.base_lr": 0.1 * number, "adapter.bottlenecks": [number]}
    return Result(
        number, values, state, score, None if score is None else 3, 4, 12.5, f"artifacts/runs/{number}", reason
    )


RESULTS = [
    result(1, 0.5), result(2, 0.9, "stopped early"), result(3, 0.7), result(4, None, "failed", "it diverged"),
    result(5, 0.7),
]  # fmt: skip


def test_the_best_is_a_complete_trial_and_the_earlier_of_equals() -> None:
    assert [one.number for one in results.ordered(RESULTS, "top1")] == [3, 5, 1, 2, 4]
    assert results.best(RESULTS, "top1") == RESULTS[2]
    assert results.best(RESULTS, "loss") == RESULTS[0]
    assert results.best(RESULTS[1:2], "top1") is None
    assert results.best([], "top1") is None


def test_the_table_says_what_became_of_each_trial() -> None:
    first, *lines = results.text(RESULTS, "balanced_accuracy").splitlines()
    assert "validation balanced accuracy" in first
    assert lines[0].split() == ["3", "0.30000000000000004", "[3]", "70.00%", "3", "4", "12", "complete"]
    assert lines[3].endswith("stopped early")
    assert lines[4].endswith("failed: it diverged")
    assert "| 0.7000 |" in results.markdown(RESULTS, "loss")


@pytest.mark.parametrize(
    ("values", "log_ranges", "log"),
    [
        ([0.1, 0.2], {"training.base_lr": True}, True),
        ([0.001, 0.1], {"training.base_lr": False}, False),
        ([0.01, 0.1], {}, True),
        ([4, 8], {}, False),
        ([0.0, 0.1], {}, False),
        (["sgd", "adamw"], {}, False),
        ([True, False], {}, False),
    ],
)
def test_an_axis_is_logarithmic_as_the_search_was(values: list[Any], log_ranges: dict[str, bool], log: bool) -> None:
    trials = [dataclasses.replace(RESULTS[0], values={"training.base_lr": value}) for value in values]
    assert results.is_log("training.base_lr", trials, log_ranges) == log


def test_a_sweep_writes_table_picture_and_best_values(tmp_path: Path) -> None:
    results.write(tmp_path, RESULTS, "top1", {"training.base_lr": 0.3, "adapter.bottlenecks": [3]}, {})
    table = pd.read_csv(tmp_path / "sweep.csv")
    assert table["trial"].tolist() == [1, 2, 3, 4, 5]
    assert table["state"].tolist()[3] == "failed"
    assert yaml.safe_load((tmp_path / "best.yaml").read_text()) == {
        "training": {"base_lr": 0.3}, "adapter": {"bottlenecks": [3]}
    }  # fmt: skip
    with Image.open(tmp_path / "sweep.png") as picture:
        assert picture.width > 1500  # a panel by number and one for each key
