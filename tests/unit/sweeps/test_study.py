from __future__ import annotations

import contextlib
import dataclasses
import math
import random
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptformer.base.errors import UserError
from adaptformer.sweeps.space import Choice, Dimension, Range
from adaptformer.sweeps.study import STARTUP_TRIALS, Pruned, Result, Settings, Study
from adaptformer.training.history import EpochRow

RATE = Range("training.base_lr", 0.01, 1.0, log=True)
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
            trial.on_epoch(row(1, score(trial.values["training.base_lr"])))
            trial.end("complete", FOLDER, 1.0)
    return study.results()


def tried(results: Sequence[Result]) -> list[float]:
    return [result.values["training.base_lr"] for result in results]


def test_a_sweep_makes_the_given_number_of_trials_and_more_continue_it(tmp_path: Path) -> None:
    results = worked(opened(tmp_path))
    assert [result.number for result in results] == list(range(1, 9))
    assert len(set(tried(results))) == 8
    assert all(result.score == pytest.approx(score(result.values["training.base_lr"])) for result in results)
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
        tried(worked(opened(tmp_path / sampler, sampler=sampler, trials=18)))[12:] for sampler in ("tpe", "random")
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
        again.on_epoch(row(1, score(again.values["training.base_lr"])))
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
    lists = [Choice("training.base_lr", ("0.1", "0.2", "0.3")), Choice("training.epochs", ("1", "2"))]
    study = opened(tmp_path, lists, sampler="grid", trials=1)
    assert study.trials == 6
    results = worked(study)
    assert sorted(tuple(result.values.values()) for result in results) == [
        (rate, epochs) for rate in (0.1, 0.2, 0.3) for epochs in (1, 2)
    ]


def test_a_space_that_is_used_up_ends_the_sweep(tmp_path: Path) -> None:
    results = worked(opened(tmp_path, [Choice("training.base_lr", ("0.1", "0.3"))]))
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


class TestDamage:
    """A database that is damaged, empty or gone."""

    @pytest.fixture
    def sound(self, tmp_path: Path) -> Path:
        """A sweep of which five of eight trials are done, one of them failed and one stopped."""
        study = opened(tmp_path / "sweep")
        worked(study, 3)
        with study.working():
            for state in ("failed", "stopped early"):
                trial = study.next()
                assert trial is not None
                trial.on_epoch(row(1, 0.3))
                trial.end(state, FOLDER, 1.0, "diverged" if state == "failed" else "")
        return tmp_path / "sweep"

    @pytest.mark.parametrize("loss", ["gone", "empty"])
    def test_trials_of_a_lost_database_are_restored_with_a_word_and_the_sweep_goes_on_as_it_would(
        self, sound: Path, tmp_path: Path, loss: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        before = opened(sound).results()
        shutil.copytree(sound, tmp_path / "undisturbed/sweep")
        undisturbed = worked(opened(tmp_path / "undisturbed/sweep"))
        (sound / "study.db").unlink()
        if loss == "empty":
            (sound / "study.db").touch()
        again = opened(sound)
        assert [record.message for record in caplog.records] == [
            f"5 trials that the database had lost are restored from {sound / 'trials'}/"
        ]
        assert again.results() == before
        assert opened(sound).results() == before
        assert worked(again) == undisturbed

    def test_no_turned_bit_of_the_database_changes_a_trial(self, sound: Path) -> None:
        before = opened(sound).results()
        path, dice, refused = sound / "study.db", random.Random(0), list[UserError]()
        content = path.read_bytes()
        used = [place for place in range(len(content)) if content[place]]  # most of the file is empty
        for place in dice.sample(used, 30):
            changed = bytearray(content)
            changed[place] ^= 1 << dice.randrange(8)
            path.write_bytes(changed)
            try:
                assert opened(sound).results() == before
            except UserError as error:
                refused.append(error)
        assert refused
        assert all("is damaged" in error.cause and "remove" not in error.remedy for error in refused)
        path.write_bytes(content)
        assert opened(sound).results() == before

    def test_values_that_changed_are_refused_until_the_database_is_moved_away(self, sound: Path) -> None:
        before = opened(sound).results()
        with contextlib.closing(sqlite3.connect(sound / "study.db")) as connection, connection:
            connection.execute("update trial_values set value = value + 0.1 where trial_id = 2")
        with pytest.raises(UserError, match=r"the database of the sweep in .* is damaged") as caught:
            opened(sound)
        assert caught.value.remedy.startswith("move study.db away")
        (sound / "study.db").rename(sound / "study.db.damaged")
        assert opened(sound).results() == before

    def test_a_damaged_record_is_written_again_as_long_as_the_database_has_the_trial(
        self, sound: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = min((sound / "trials").iterdir())
        content = path.read_bytes()
        path.write_bytes(content.replace(b"0", b"1"))
        opened(sound)
        assert path.read_bytes() == content
        assert "was damaged: it is written again" in caplog.text
        path.write_bytes(content.replace(b"0", b"1"))
        (sound / "study.db").unlink()
        with pytest.raises(UserError, match="is damaged"):
            opened(sound)

    def test_a_sweep_of_before_gets_its_records_and_is_not_begun_anew(self, sound: Path) -> None:
        before = opened(sound).results()
        records = {path.name: path.read_bytes() for path in (sound / "trials").iterdir()}
        shutil.rmtree(sound / "trials")
        assert opened(sound).results() == before
        assert {path.name: path.read_bytes() for path in (sound / "trials").iterdir()} == records
        shutil.rmtree(sound / "trials")
        (sound / "study.db").unlink()
        (sound / "sweep.csv").touch()
        for _ in range(2):
            with pytest.raises(UserError, match=r"sweep\.csv lists trials, but the database of the sweep has none"):
                opened(sound)
