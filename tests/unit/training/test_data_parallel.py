"""Two real processes that talk over gloo train what one process does."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import mite
import numpy as np
import pytest
import small_runs
import torch
from torch import Tensor

from adaptformer.base.errors import UserError
from adaptformer.model import classifier
from adaptformer.training import data_parallel, epoch, loop, processes, resume
from adaptformer.training.data_parallel import World
from adaptformer.training.epoch import PhaseTraining

SETTINGS: dict[str, Any] = {"per_class": 7, "batch_size": 9, "epochs": 2}
"""A batch of 9 is 5 images for one process and 4 for the other."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _process(rank: int, body: Callable[..., object], port: int, folder: Path, options: dict[str, Any]) -> None:
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2",
        LOCAL_WORLD_SIZE="2", TORCHELASTIC_RUN_ID="test",
    )  # fmt: skip
    torch.set_num_threads(1)
    # A process whose other one has failed must not wait as long as a training would.
    with mock.patch.object(data_parallel, "PATIENCE", timedelta(minutes=2)), data_parallel.joined("cpu") as world:
        torch.save(body(world, folder, **options), folder / f"{rank}.pt")


ByTwo = Callable[..., list[Any]]


@pytest.fixture(scope="module")
def by_two() -> Iterator[ByTwo]:
    """Return `by_two(body, folder, …)`: what `body(world, folder, …)` returns in each of two processes.

    The one that leads is this one, where the mutation check sees what it runs.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as other:  # importing torch takes seconds

        def by_two(body: Callable[..., Any], folder: Path, **options: Any) -> list[Any]:
            folder.mkdir(parents=True, exist_ok=True)
            port = free_port()
            done = other.submit(_process, 1, body, port, folder, options)
            with mock.patch.dict(os.environ):
                _process(0, body, port, folder, options)
            done.result()
            return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in (0, 1)]

        yield by_two


def trained(world: World, folder: Path, **changes: Any) -> tuple[dict[str, Tensor], list[Any]]:
    run = small_runs.run(folder, world=world, **{**SETTINGS, **changes})
    rows, _ = loop.train(run)
    return classifier.trainable_state_dict(run.model), rows


def assert_same_training(one: Any, other: Any, tolerance: float) -> None:
    (state, rows), (expected, expected_rows) = one, other
    assert state.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(state[name], tensor, rtol=tolerance, atol=tolerance, msg=name)
    for row, wanted in zip(rows, expected_rows, strict=True):
        assert (row.phase, row.epoch, row.val_top1) == (wanted.phase, wanted.epoch, wanted.val_top1)
        assert row.train_loss == pytest.approx(wanted.train_loss, abs=1e-4)
        assert row.train_top1 == pytest.approx(wanted.train_top1)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"gradient_accumulation": 2, "batch_size": 10, "class_balance": "loss"},
        {"schedule": "layerwise", "epochs": 1, "fixed_crops": 1, "crop_scale": (1.0, 1.0), "flip": False},
        {"head_statistics": "running", "model": {"method": "full"}, "base_lr": 0.8},
    ],
    ids=["dropout and drop path", "micro-batches and weights", "layer by layer", "full"],
)
def test_two_processes_train_as_one_does(changes: dict[str, Any], tmp_path: Path, by_two: ByTwo) -> None:
    alone = trained(World(), tmp_path / "alone", **changes)
    first, second = by_two(trained, tmp_path / "two", **changes)
    assert_same_training(first, alone, 2e-4)
    assert_same_training(second, first, 0.0)


def test_training_itself_moves_far_more_than_that(tmp_path: Path) -> None:
    # The tolerance above would prove nothing if two epochs changed no more.
    (state, _), (other, _) = (trained(World(), tmp_path / str(seed), seed=seed) for seed in (0, 1))
    assert max(float((state[name] - other[name]).abs().max()) for name in state) > 0.02


def interrupted(world: World, folder: Path) -> list[int]:
    """Train two epochs of three, then all three with the state of the first; return which epochs were computed.

    Only the process that leads has the state: the other one's folder is empty.
    """

    def kill(row: Any) -> None:
        if row.epoch == 2:
            raise KeyboardInterrupt

    own = folder / f"own{world.rank}"
    own.mkdir()
    run = small_runs.run(own, world=world, **{**SETTINGS, "epochs": 3})
    with contextlib.suppress(KeyboardInterrupt):
        loop.train(run, kill)
    assert run.checkpoint.path.exists() == world.is_main
    computed: list[int] = []
    compute = loop.train_epoch

    def counted(training: PhaseTraining, epoch: int, *rest: Any) -> Any:
        computed.append(epoch)
        return compute(training, epoch, *rest)

    run = small_runs.run(own, world=world, **{**SETTINGS, "epochs": 3})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "train_epoch", counted)
        loop.train(run)
    undisturbed = small_runs.run(folder / f"undisturbed{world.rank}", world=world, **{**SETTINGS, "epochs": 3})
    loop.train(undisturbed)
    assert all(
        torch.equal(tensor, classifier.trainable_state_dict(undisturbed.model)[name])
        for name, tensor in classifier.trainable_state_dict(run.model).items()
    )
    return computed


def test_a_killed_training_continues_with_the_same_bytes(tmp_path: Path, by_two: ByTwo) -> None:
    assert by_two(interrupted, tmp_path) == [[3], [3]]


def killed_within_an_epoch(world: World, folder: Path) -> list[Any]:
    """Stop the training before its third step, continue it; return its only row, and that of an undisturbed one."""
    settings = {**SETTINGS, "epochs": 1, "batch_size": 5, "every_steps": 1}
    step, steps = epoch.train_step, 0

    def stopping(*given: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 3:
            raise KeyboardInterrupt
        return step(*given)

    own = folder / f"own{world.rank}"
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(epoch, "train_step", stopping)
        loop.train(small_runs.run(own, world=world, **settings))
    (row,), _ = loop.train(small_runs.run(own, world=world, **settings))
    (undisturbed,), _ = loop.train(small_runs.run(folder / f"undisturbed{world.rank}", world=world, **settings))
    return [steps, row, undisturbed]


def test_a_training_killed_within_an_epoch_counts_each_image_once(tmp_path: Path, by_two: ByTwo) -> None:
    for steps, row, undisturbed in by_two(killed_within_an_epoch, tmp_path):
        assert steps == 3
        assert (row.train_loss, row.train_top1) == pytest.approx((undisturbed.train_loss, undisturbed.train_top1))
        assert row.val_loss == undisturbed.val_loss


def exchanged(world: World, folder: Path) -> dict[str, Any]:
    part = torch.arange(5)[world.share(5)] + 10
    return {
        "gathered": world.all_gather(part, 5).tolist(),
        "none": world.all_gather(torch.arange(1)[world.share(1)], 1).tolist(),
        "summed": float(world.all_reduce(torch.tensor(world.rank + 1.0))),
        "same": world.broadcast(f"of {world.rank}"),
        "leads": world.is_main,
        "state": (folder / "state").exists(),
    }


def test_what_processes_tell_each_other(tmp_path: Path, by_two: ByTwo) -> None:
    first, second = by_two(exchanged, tmp_path)
    assert first.pop("leads")
    assert not second.pop("leads")
    assert first == second
    assert first["gathered"] == [10, 11, 12, 13, 14]
    assert first["none"] == [0]
    assert first["summed"] == 3
    assert first["same"] == "of 0"


def test_shares_cover_all_rows_once() -> None:
    for count in (0, 1, 5, 12):
        rows = np.arange(count)
        shares = [rows[World(rank, 5).share(count)] for rank in range(5)]
        assert np.concatenate(shares).tolist() == rows.tolist()
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_micro_batch_smaller_than_the_number_of_processes_is_refused(tmp_path: Path) -> None:
    run = small_runs.run(tmp_path, world=World(0, 4), batch_size=6, gradient_accumulation=2)
    with pytest.raises(UserError, match="a micro-batch of 3 images is too small for 4 processes"):
        loop.plan(run)


def test_another_number_of_processes_resumes_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = resume.State([], -1, {}, {}, {}, {})
    resume.save(tmp_path / "state", state, {"a": 1}, processes=2)
    assert resume.load(tmp_path / "state", {"a": 1}, processes=1) is not None
    assert "training resumes with 1 processes instead of 2" in caplog.text
    caplog.clear()
    resume.load(tmp_path / "state", {"a": 1}, processes=2)
    assert not caplog.text


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "4", "RANK": "1", "LOCAL_WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with (
        pytest.raises(UserError, match="4 processes were started on this machine, which has 2 GPUs"),
        data_parallel.joined("auto"),
    ):
        pass


def test_only_the_variables_of_torchrun_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")  # as a cluster's scheduler sets it
    monkeypatch.setenv("RANK", "1")
    assert not processes.started_by_torchrun()
    assert not processes.follows()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a")
    assert processes.started_by_torchrun()
    assert processes.follows()
    monkeypatch.setenv("RANK", "0")
    assert not processes.follows()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert not processes.started_by_torchrun()
    monkeypatch.delenv("WORLD_SIZE")
    assert not processes.started_by_torchrun()


def test_one_process_changes_nothing(tmp_path: Path) -> None:
    run = small_runs.run(tmp_path)
    before = list(run.model.modules())
    data_parallel.make_distributed(run.model, World())
    assert list(run.model.modules()) == before
    assert mite.CLASSES  # the model is the mite's
