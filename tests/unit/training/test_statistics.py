"""Which statistics of the head's BatchNorm validation, resume state and adapter file have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mite
import numpy as np
import pytest
import torch
from small_runs import run, training_params

from adaptformer.model import classifier, inference
from adaptformer.training import evaluation_pass, head_statistics, loop, schedule
from adaptformer.training.history import EpochRow
from adaptformer.training.run import Run


def exact(made: Run, rows: np.ndarray | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of BatchNorm's input over training images, with the weights as they are."""
    given: list[torch.Tensor] = []
    images = made.data.train.images if rows is None else made.data.train.images[rows]
    with torch.no_grad():
        hook = made.model.head.batch_norm.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
        inference.logits(made.model, images, made.data.contract, batch_size=1000, device=made.compute.device)
        hook.remove()
    return given[0].mean(0), given[0].var(0)


def present(made: Run) -> tuple[torch.Tensor, torch.Tensor]:
    norm = made.model.head.batch_norm
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean.clone(), norm.running_var.clone()


def test_each_validation_and_the_delivered_model_have_those_of_the_weights_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = 0
    validate = evaluation_pass.validate

    def watching(made: Run) -> dict[str, float]:
        nonlocal checked
        checked += 1
        torch.testing.assert_close(present(made), exact(made))
        return validate(made)

    monkeypatch.setattr(evaluation_pass, "validate", watching)
    made = run(tmp_path)
    loop.train(made)
    assert checked == 3
    torch.testing.assert_close(present(made), exact(made))


def test_running_ones_are_behind(tmp_path: Path) -> None:
    made = run(tmp_path, head_statistics="running")
    loop.train(made)
    assert (present(made)[0] - exact(made)[0]).abs().max() > 0.01


def test_training_itself_does_not_depend_on_the_choice(tmp_path: Path) -> None:
    ends = []
    for choice in ("recomputed", "running"):
        made = run(tmp_path / choice, head_statistics=choice, selection_metric="loss")
        kept: list[dict[str, torch.Tensor]] = []

        def keep(_row: EpochRow, made: Run = made, kept: list[dict[str, torch.Tensor]] = kept) -> None:
            kept.append({name: p.detach().clone() for name, p in classifier.trainable(made.model).items()})

        loop.train(made, keep)
        ends.append(kept[-1])
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


@pytest.mark.parametrize("diverges", [False, True])
def test_a_later_phase_begins_with_those_of_the_weights_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, diverges: bool
) -> None:
    begun: list[bool] = []
    begin = schedule.begin
    made = run(tmp_path, schedule="layerwise", rounds=2, epochs=1, base_lr=1e6 if diverges else 8.0)

    def watching(model: classifier.Classifier, phase: schedule.Phase) -> None:
        pairs = zip(present(made), exact(made), strict=True)
        begun.append(all(torch.allclose(*pair, rtol=1e-4, atol=1e-5) for pair in pairs))
        begin(model, phase)

    monkeypatch.setattr(schedule, "begin", watching)
    trained = loop.train(made)
    assert any(row.rolled_back for row in trained.rows) == diverges
    assert begun[1:] == [True] * 3


def test_each_epoch_computes_them_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[Run] = []
    monkeypatch.setattr(evaluation_pass, "recompute_statistics", computed.append)
    loop.train(run(tmp_path, schedule="layerwise", epochs=2))
    assert len(computed) == 2 * mite.DEPTH


def test_a_fraction_takes_the_same_part_of_the_split_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_statistics, "FEWEST", 6)
    made = run(tmp_path, epochs=2, statistics_fraction=0.1)
    used: list[np.ndarray] = []
    prepared = inference.prepared

    def noting(images: np.ndarray, rows: np.ndarray, *rest: Any, **more: Any) -> Iterator[torch.Tensor]:
        if images is made.data.train.images:
            used.append(rows)
        return prepared(images, rows, *rest, **more)

    monkeypatch.setattr(inference, "prepared", noting)
    loop.train(made)
    assert len(set(used[0].tolist())) == 6
    assert all((rows == used[0]).all() for rows in used)
    torch.testing.assert_close(present(made), exact(made, used[0]))


def test_which_images_they_are_of_depends_on_the_seed() -> None:
    first, again, other = (
        head_statistics.rows(1000, training_params(seed=seed, statistics_fraction=0.3)).tolist() for seed in (0, 0, 1)
    )
    assert first == again != other
    assert first == sorted(set(first))
    assert len(first) == 300


@pytest.mark.parametrize(
    ("images", "fraction", "expected"),
    [
        (100, 0.1, 100),  # all, if there are fewer than 256
        (1222, 0.1, 256),
        (5001, 0.1, 501),
        (1_000_000, 0.1, 2000),
        (1222, 1.0, 1222),
    ],
)
def test_they_are_of_a_fraction_within_bounds(images: int, fraction: float, expected: int) -> None:
    assert len(head_statistics.rows(images, training_params(statistics_fraction=fraction))) == expected


def test_running_ones_need_no_images() -> None:
    assert head_statistics.rows(10, training_params(head_statistics="running")).size == 0


@pytest.mark.parametrize("reset", [False, True])
def test_running_statistics_start_anew_in_a_phase_if_the_params_say_so(tmp_path: Path, reset: bool) -> None:
    made = run(tmp_path, schedule="layerwise", epochs=1, head_statistics="running", reset_statistics=reset)
    batches: list[int] = []
    loop.train(made, lambda _row: batches.append(int(made.model.head.batch_norm.num_batches_tracked)))  # type: ignore[arg-type]
    # 21 images make two batches of eight in an epoch.
    assert batches == ([2, 2] if reset else [2, 4])
    assert mite.DEPTH == 2
