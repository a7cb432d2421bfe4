from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
import small_project

from adaptformer.base.errors import UserError
from adaptformer.config import params
from adaptformer.config.params import ParamsFile
from adaptformer.sweeps import space
from adaptformer.sweeps.space import Choice, Range


@pytest.fixture
def file(tmp_path: Path) -> ParamsFile:
    small_project.write_params(tmp_path)
    return params.read(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("training.epochs=4,8", Choice("training.epochs", ("4", "8"))),
        ("training.epochs=4, 8, 4", Choice("training.epochs", ("4", "8"))),
        ("adapter.bottlenecks=[4],[2, 2]", Choice("adapter.bottlenecks", ("[4]", "[2,2]"))),
        ("adapter.scale=learned,0.1", Choice("adapter.scale", ('"learned"', "0.1"))),
        ("training.base_lr=0.001..0.1 log", Range("training.base_lr", 0.001, 0.1, log=True)),
        ("training.epochs=2..9", Range("training.epochs", 2, 9, log=False)),
    ],
)
def test_what_a_search_means(text: str, expected: object, file: ParamsFile) -> None:
    assert space.parse([text], file, {}) == [expected]


@pytest.mark.parametrize(
    ("texts", "cause"),
    [
        (["training.epochs"], "the search training.epochs has no values"),
        (["training.epochs= "], "has no values"),
        (["training.epochs=# 1, 2\n"], "has no values"),
        (["training.epochs=1,2", "training.epochs=3,4"], "has training.epochs twice"),
        (["training.epoch=1,2"], "training.epoch is no key of params.yaml"),
        (["training.epochs=0,2"], r"training.epochs = 0 in the overrides"),
        (["training.warmup_fraction=0.1..3.0"], r"training.warmup_fraction = 3.0 in the overrides"),
        (["training.base_lr=0.1..0.01"], "the range of training.base_lr=0.1..0.01 is empty"),
        (["training.base_lr=0.0..0.01 log"], "begins at 0 with log"),
        (["training.base_lr=low..0.1"], "the end low of .* is no number"),
        (["training.base_lr=true..2"], "the end true of .* is no number"),
        (["training.base_lr=0.1...inf"], "the end .inf of .* is no number"),
        (["training.base_lr=" + "1" * 5000 + "..2"], "is no number"),
        (["training.epochs=a]: [b"], "a key is no text"),
        (["training.epochs=]\n---\n[1"], "cannot be read"),
        (["training.base_lr=[1"], "cannot be read"),
        (["runtime.threads=1,2"], "runtime.threads changes no result"),
    ],
)
def test_a_faulty_search_is_refused(texts: list[str], cause: str, file: ParamsFile) -> None:
    with pytest.raises(UserError, match=cause):
        space.parse(texts, file, {})


def test_values_are_checked_with_those_that_all_trials_share(file: ParamsFile) -> None:
    with pytest.raises(UserError, match=r"adapter\."):
        space.parse(["adapter.bottlenecks=[4],[2, 2]"], file, {"adapter.method": "nonsense"})


def test_a_suggestion_lies_in_its_dimension() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    dimensions: list[Any] = [
        Choice("a", ("[4]", "[2,2]")), Range("b", 0.001, 0.1, log=True), Range("c", 2, 4, log=False)
    ]  # fmt: skip
    seen = []
    for _ in range(30):
        trial = study.ask()
        seen.append([dimension.value(dimension.suggest(trial)) for dimension in dimensions])
    lists, rates, counts = zip(*seen, strict=True)
    assert {tuple(value) for value in lists} == {(4,), (2, 2)}
    assert all(0.001 <= rate <= 0.1 for rate in rates)
    assert sum(rate < 0.01 for rate in rates) > 8  # by equal ratios: half of them
    assert set(counts) == {2, 3, 4}
    assert all(rate == float(f"{rate:.6g}") for rate in rates)  # what a table and an override can repeat


def test_a_grid_has_all_combinations_and_no_range() -> None:
    lists = [Choice("a", ("1", "2")), Choice("b", ("3", "4"))]
    assert list(space.combinations(lists)) == [
        {"a": "1", "b": "3"}, {"a": "1", "b": "4"}, {"a": "2", "b": "3"}, {"a": "2", "b": "4"}
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"cannot try all of c=0\.1\.\.1"):
        next(space.combinations([*lists, Range("c", 0.1, 1.0, log=False)]))
