from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptformer.sweeps.space import Choice, Dimension, Range
from adaptformer.sweeps.study import STARTUP_TRIALS, Pruned, Result, Settings, Study
from adaptformer.tuning.history import EpochRow

RATE = Range("tuning.base_lr", 0.01, 1.0, log=True)
SETTINGS = Settings(trials=8, sampler="tpe", pruner="none", seed=0, metric="top1")
FOLDER = Path("artifacts/runs/one")


def row(epoch: int, top1: float, loss: float = 1.0, rolled_back: int = 0) -> EpochRow:
    return EpochRow(1, 1, epoch, 0.1, 1.0, 0.5, loss, top1, top1, top1, rolled_back)


def opened(root: Path, dimensions: Sequence[Dimension] = (RATE,), **changes: Any) -> Study:
    return Study(root, None, dimensions, dataclasses.replace(SETTINGS, **changes))


def score(rate: float) -> float:
    return 0.9 - abs(math.log(rate / 0.1)) / 5


def worked(study: Study, count: int = 99) -> list[Result]:
    """Train up to so many trials, each of one epoch."""
    with study.working():
        for _ in range(count):
            if (trial := study.next()) is None:
                break
            trial.on_epoch(row(1, score(trial.values["tuning.base_lr"])))
            trial.end("complete", FOLDER, 1.0)
    return study.results()


def tried(results: Sequence[Result]) -> list[float]:
    return [result.values["tuning.base_lr"] for result in results]


def test_so_many_trials_are_made_and_more_continue(tmp_path: Path) -> None:
    results = worked(opened(tmp_path))
    assert [result.number for result in results] == list(range(1, 9))
    assert len(set(tried(results))) == 8
    assert all(result.score == pytest.approx(score(result.values["tuning.base_lr"])) for result in results)
    assert worked(opened(tmp_path)) == results
    more = worked(opened(tmp_path, trials=10))
    assert more[:8] == results
    assert len(more) == 10


def test_the_seed_decides_what_is_tried(tmp_path: Path) -> None:
    first, again, other = (
        tried(worked(opened(tmp_path / name, seed=seed))) for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert first == again
    assert first != other


def test_tpe_learns_and_random_does_not(tmp_path: Path) -> None:
    learned, drawn = (
        tried(worked(opened(tmp_path / sampler, sampler=sampler, trials=30)))[20:] for sampler in ("tpe", "random")
    )
    assert np.mean([score(rate) for rate in learned]) > np.mean([score(rate) for rate in drawn]) + 0.05


def test_a_killed_process_changes_nothing_of_what_is_tried(tmp_path: Path) -> None:
    undisturbed = tried(worked(opened(tmp_path / "undisturbed")))
    study = opened(tmp_path / "killed")
    worked(study, 3)
    with study.working():
        lost = study.next()
    # That process is gone; its lock with it.
    assert lost is not None
    after = opened(tmp_path / "killed")
    with after.working():
        again = after.next()
        assert again is not None
        assert (again.values, again.number) == (lost.values, lost.number)
        again.on_epoch(row(1, score(again.values["tuning.base_lr"])))
        again.end("complete", FOLDER, 1.0)
    assert tried(worked(after)) == undisturbed


def test_a_trial_of_a_living_process_is_left_to_it(tmp_path: Path) -> None:
    one, other = opened(tmp_path, trials=2), opened(tmp_path, trials=2)
    with one.working(), other.working():
        first, second = one.next(), other.next()
        assert first is not None
        assert second is not None
        assert first.values != second.values
        assert (first.number, second.number) == (1, 2)
        assert one.next() is None
        assert other.results() == []


def test_a_grid_has_each_combination_once(tmp_path: Path) -> None:
    lists = [Choice("tuning.base_lr", ("0.1", "0.2", "0.3")), Choice("tuning.epochs", ("1", "2"))]
    study = opened(tmp_path, lists, sampler="grid", trials=1)
    assert study.trials == 6
    results = worked(study)
    assert sorted(tuple(result.values.values()) for result in results) == [
        (rate, epochs) for rate in (0.1, 0.2, 0.3) for epochs in (1, 2)
    ]


def test_a_space_that_is_used_up_ends_the_sweep(tmp_path: Path) -> None:
    results = worked(opened(tmp_path, [Choice("tuning.base_lr", ("0.1", "0.3"))]))
    assert sorted(tried(results)) == [0.1, 0.3]


def test_a_trial_that_is_worse_than_half_is_stopped_early(tmp_path: Path) -> None:
    study = opened(tmp_path, pruner="median", trials=STARTUP_TRIALS + 2)
    with study.working():
        for number in range(STARTUP_TRIALS):
            trial = study.next()
            assert trial is not None
            for epoch in (1, 2, 3):
                trial.on_epoch(row(epoch, 0.5 + 0.1 * epoch + 0.01 * number))
            trial.end("complete", FOLDER, 3.0)
        bad = study.next()
        assert bad is not None
        bad.on_epoch(row(1, 0.1))  # the first epoch says little
        with pytest.raises(Pruned):
            bad.on_epoch(row(2, 0.2))
        bad.end("stopped early", FOLDER, 2.0)
        good = study.next()
        assert good is not None
        for epoch in (1, 2, 3):
            good.on_epoch(row(epoch, 0.9))
        good.end("complete", FOLDER, 3.0)
    *_, stopped, last = study.results()
    assert (stopped.state, stopped.epochs, stopped.score, stopped.best_epoch) == ("stopped early", 2, 0.2, 2)
    assert (last.state, last.score, last.best_epoch) == ("complete", 0.9, 1)


def test_the_loss_is_better_when_it_is_smaller(tmp_path: Path) -> None:
    study = opened(tmp_path, metric="loss", trials=1)
    with study.working():
        trial = study.next()
        assert trial is not None
        for epoch, loss in ((1, 0.5), (2, 0.3), (3, 0.4)):
            trial.on_epoch(row(epoch, 0.9, loss))
        trial.end("complete", FOLDER, 1.0)
    (result,) = study.results()
    assert (result.score, result.best_epoch) == (0.3, 2)


def test_epochs_that_were_taken_back_do_not_count(tmp_path: Path) -> None:
    study = opened(tmp_path, trials=1)
    with study.working():
        trial = study.next()
        assert trial is not None
        trial.on_epoch(row(1, 0.5))
        trial.on_epoch(row(2, 0.99, rolled_back=1))
        trial.end("complete", FOLDER, 1.0)
    (result,) = study.results()
    assert (result.score, result.best_epoch, result.epochs) == (0.5, 1, 2)


def test_a_failed_trial_keeps_its_reason(tmp_path: Path) -> None:
    study = opened(tmp_path, trials=2)
    with study.working():
        trial = study.next()
        assert trial is not None
        trial.end("failed", FOLDER, 1.0, "training diverged")
    results = worked(study)
    assert (results[0].state, results[0].reason, results[0].score) == ("failed", "training diverged", None)
    assert results[1].state == "complete"
