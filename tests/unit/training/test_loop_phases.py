"""Iterative training: only what a phase names moves, a killed run ends with the same bytes, a bad phase is undone."""

from __future__ import annotations

import math
from pathlib import Path

import mite
import pytest
import small_runs
import torch

from adaptformer.model import classifier
from adaptformer.training import epoch, evaluation_pass, loop
from adaptformer.training.history import EpochRow

TWO_SLOTS = {"bottlenecks": [4, 3], "dropout": 0.3}
SWEEPS = [
    {"schedule": "slotwise", "rounds": 2, "epochs": 2},
    {
        "schedule": "layerwise",
        "block_order": "down",
        "epochs": 2,
        "head_statistics": "running",
        "reset_statistics": True,
    },
]


class Killed(Exception):  # noqa: N818 - it is what happens, not an error
    pass


def snapshot(model: classifier.Classifier) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("sweep", SWEEPS)
def test_only_the_named_parameters_change_in_a_phase(tmp_path: Path, sweep: dict[str, object]) -> None:
    run = small_runs.run(tmp_path, model=TWO_SLOTS, warmup_fraction=0, **sweep)
    phases = loop.plan(run)
    seen = [snapshot(run.model)]
    ends = []

    def watch(row: EpochRow) -> None:
        if row.epoch == phases[row.phase - 1].epochs:
            seen.append(snapshot(run.model))
            ends.append(row.rolled_back)

    loop.train(run, watch)
    assert len(seen) == 1 + len(phases)
    assert not any(ends), "otherwise nothing would move"
    for before, after, phase in zip(seen, seen[1:], phases, strict=False):
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        assert moved == phase.trains, phase.name


@pytest.mark.parametrize("sweep", SWEEPS)
def test_a_run_killed_after_any_epoch_ends_with_the_same_bytes(tmp_path: Path, sweep: dict[str, object]) -> None:
    settings = small_runs.RESTLESS | {"bottlenecks": [4, 3]}
    whole = small_runs.run(tmp_path / "whole", model=settings, **sweep)
    # What a kill leaves behind is the state of the last whole epoch, so a copy of it stands for one.
    left: list[bytes] = []
    rows, best = loop.train(whole, lambda _row: left.append(whole.checkpoint.path.read_bytes()))
    for survived, content in enumerate(left[:-1], start=1):
        again = small_runs.run(tmp_path, model=settings, **sweep)
        again.checkpoint.path.write_bytes(content)
        assert loop.train(again) == (rows, best), survived
        for name, tensor in classifier.trainable_state_dict(whole.model).items():
            assert torch.equal(classifier.trainable_state_dict(again.model)[name], tensor), (survived, name)


def test_a_phase_that_ends_worse_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([1.0, 0.9, 0.95, 2.0, 0.9, 0.8])
    monkeypatch.setattr(evaluation_pass, "validate", lambda _run: small_runs.validated(next(losses), 0.5))
    run = small_runs.run(tmp_path, model={"bottlenecks": [4, 3, 2]}, schedule="slotwise", epochs=2, rollback_above=0.5)
    seen = {}

    def watch(row: EpochRow) -> None:
        seen[row.phase, row.epoch] = snapshot(run.model)

    rows, _ = loop.train(run, watch)
    assert [(row.phase, row.epoch, row.rolled_back) for row in rows] == [
        (1, 1, 0), (1, 2, 0), (2, 1, 0), (2, 2, 1), (3, 1, 0), (3, 2, 0),
    ]  # fmt: skip
    for name, parameter in seen[2, 2].items():
        assert torch.equal(parameter, seen[1, 2][name]), name
    assert any(not torch.equal(p, seen[1, 2][name]) for name, p in seen[2, 1].items()), "phase 2 did train"


def test_a_phase_is_not_measured_by_one_that_was_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([1.0, 1.0, 0.4, 2.0, 1.0, 1.1])
    monkeypatch.setattr(evaluation_pass, "validate", lambda _run: small_runs.validated(next(losses), 0.5))
    run = small_runs.run(tmp_path, model={"bottlenecks": [4, 3, 2]}, schedule="slotwise", epochs=2, rollback_above=0.5)
    rows, _ = loop.train(run)
    # Phase 2 has 0.4 on its way to 2.0 and is undone; 1.1 is 0.7 above that, and 0.1 above what is left.
    assert [row.rolled_back for row in rows] == [0, 0, 0, 1, 0, 0]


def test_a_phase_that_diverges_is_taken_back_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([1.0, 0.9, math.nan, 0.9, 0.8])
    monkeypatch.setattr(evaluation_pass, "validate", lambda _run: small_runs.validated(next(losses), 0.5))
    run = small_runs.run(tmp_path, model={"bottlenecks": [4, 3, 2]}, schedule="slotwise", epochs=2)
    rows, best = loop.train(run)
    assert [(row.phase, row.epoch, row.rolled_back) for row in rows] == [
        (1, 1, 0), (1, 2, 0), (2, 1, 1), (3, 1, 0), (3, 2, 0),
    ]  # fmt: skip
    assert best == 4


@pytest.mark.parametrize(
    ("losses", "undone"),
    [
        ([1.0, 1.0, 1.0, 1.5], [0, 0, 0, 0]),  # as bad as the guard allows
        ([1.0, 1.0, 1.0, 1.5001], [0, 0, 0, 1]),
        ([1.0, 1.0, 2.0, 1.0], [0, 0, 0, 0]),  # a phase may be bad on its way
        ([0.5, 1.0, 1.0, 1.1], [0, 0, 0, 1]),  # the best before counts, not the last
        ([1.0, 3.0, 3.0, 1.0], [0, 0, 0, 0]),  # the first phase has nothing before it
        ([1.0, 1.0, math.inf], [0, 0, 1]),
    ],
)
def test_a_phase_is_taken_back_where_it_ends_worse_than_the_guard_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, losses: list[float], undone: list[int]
) -> None:
    given = iter(losses)
    monkeypatch.setattr(epoch, "train_steps", lambda *_: small_runs.trained())
    monkeypatch.setattr(evaluation_pass, "validate", lambda _run: small_runs.validated(next(given), 0.5))
    run = small_runs.run(tmp_path, model={"bottlenecks": [4, 3]}, schedule="slotwise", epochs=2, rollback_above=0.5)
    assert [row.rolled_back for row in loop.train(run)[0]] == undone


def test_steps_that_diverge_take_their_phase_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = iter([0.5, math.nan])
    monkeypatch.setattr(epoch, "train_steps", lambda *_: small_runs.trained(next(given)))
    monkeypatch.setattr(evaluation_pass, "validate", lambda _run: small_runs.validated(1.0, 0.5))
    run = small_runs.run(tmp_path, model={"bottlenecks": [4, 3]}, schedule="slotwise", epochs=1)
    rows, best = loop.train(run)
    assert ([row.rolled_back for row in rows], best) == ([0, 1], 0)


def test_the_log_names_phases_and_what_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "adaptformer")
    losses = iter([1.0, 2.0])
    monkeypatch.setattr(epoch, "train_steps", lambda *_: small_runs.trained())
    monkeypatch.setattr(evaluation_pass, "validate", lambda _run: small_runs.validated(next(losses), 0.25))
    monkeypatch.setattr(loop, "pace", lambda made, rate, epochs_left: f"{epochs_left} more")
    loop.train(
        small_runs.run(tmp_path, model={"bottlenecks": [4, 3]}, schedule="slotwise", epochs=1, rollback_above=0.5)
    )
    assert caplog.messages == [
        "phase 1 of 2: slot 0, round 1",
        "epoch 1/1: train loss 0.5000, validation loss 1.0000, top-1 25.00 %; 1 more",
        "phase 2 of 2: slot 1, round 1",
        "phase 2, slot 1, is rolled back: validation loss 2.0000",
        "epoch 1/1: train loss 0.5000, validation loss 2.0000, top-1 25.00 %; 0 more",
    ]


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"method": "vpt", "prompt_depth": "deep"}, {"vit.blocks.0.prompts", "vit.blocks.1.prompts"}),
        ({"method": "vpt", "prompt_depth": "shallow"}, {"vit.blocks.0.prompts"}),
        ({"method": "linear"}, set()),
    ],
)
def test_each_method_trains_its_parts_and_the_head(tmp_path: Path, settings: dict[str, str], parts: set[str]) -> None:
    run = small_runs.run(tmp_path, model=settings)
    before = snapshot(run.model)
    loop.train(run)
    moved = {name for name, parameter in snapshot(run.model).items() if not torch.equal(parameter, before[name])}
    assert moved == parts | {name for name in before if name.startswith("head.")}


def test_full_fine_tuning_moves_the_backbone(tmp_path: Path) -> None:
    run = small_runs.run(tmp_path, model={"method": "full"}, base_lr=0.5)
    before = snapshot(run.model)
    loop.train(run)
    still = {name for name, parameter in snapshot(run.model).items() if torch.equal(parameter, before[name])}
    # The BatchNorm behind fc_norm takes out any scale and shift of a channel, so these two hardly matter.
    assert still <= {"head.fc_norm.weight", "head.fc_norm.bias"}
    assert classifier.trainable_state_dict(run.model).keys() == run.model.state_dict().keys()


@pytest.mark.parametrize(
    "changes", [{"optimiser": "adamw", "base_lr": 0.3}, {"gradient_accumulation": 4}, {"class_balance": "sampler"}]
)
def test_every_way_of_optimising_learns_and_resumes(tmp_path: Path, changes: dict[str, object]) -> None:
    whole = small_runs.run(tmp_path / "whole", epochs=4, **changes)
    rows, _ = loop.train(whole)
    assert rows[-1].train_loss < rows[0].train_loss

    def kill(row: EpochRow) -> None:
        if row.epoch == 2:
            raise Killed

    with pytest.raises(Killed):
        loop.train(small_runs.run(tmp_path / "killed", epochs=4, **changes), kill)
    again = small_runs.run(tmp_path / "killed", epochs=4, **changes)
    assert loop.train(again)[0] == rows
    assert mite.tuned_hash(again.model) == mite.tuned_hash(whole.model)
