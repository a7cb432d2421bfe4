"""Two real processes that talk over gloo train what one process does."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mite
import numpy as np
import pytest
import small_runs
import torch
import torch.multiprocessing as mp
from torch import Tensor

from adaptformer.errors import UserError
from adaptformer.model import classifier
from adaptformer.tuning import data_parallel, loop, resume
from adaptformer.tuning.data_parallel import World

SETTINGS: dict[str, Any] = {"per_class": 7, "batch_size": 9, "epochs": 2}
"""A batch of 9 is 5 images for one process and 4 for the other."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _process(rank: int, body: Callable[..., object], port: int, folder: Path, options: dict[str, Any]) -> None:
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2"
    )
    torch.set_num_threads(1)
    with data_parallel.joined() as world:
        torch.save(body(world, folder, **options), folder / f"{rank}.pt")


def by_two(body: Callable[..., Any], folder: Path, **options: Any) -> list[Any]:
    """What `body(world, folder, **options)` returns in each of two processes."""
    folder.mkdir(parents=True, exist_ok=True)
    mp.spawn(_process, (body, free_port(), folder, options), nprocs=2)  # type: ignore[no-untyped-call]
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in (0, 1)]


def trained(world: World, folder: Path, **changes: Any) -> tuple[dict[str, Tensor], list[Any]]:
    run = small_runs.run(folder, world=world, **{**SETTINGS, **changes})
    rows, _ = loop.train(run)
    return classifier.tuned_state(run.model), rows


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
        {"accumulate": 2, "batch_size": 10, "balance": "loss"},
        {"schedule": "layerwise", "epochs": 1, "views": 1, "crop_scale": (1.0, 1.0), "flip": False},
        {"head_statistics": "running", "model": {"method": "full"}, "base_lr": 0.8},
    ],
    ids=["dropout and drop path", "micro-batches and weights", "layer by layer", "full"],
)
def test_two_processes_train_as_one_does(changes: dict[str, Any], tmp_path: Path) -> None:
    alone = trained(World(), tmp_path / "alone", **changes)
    first, second = by_two(trained, tmp_path / "two", **changes)
    assert_same_training(first, alone, 2e-4)
    assert_same_training(second, first, 0.0)


def test_training_itself_moves_far_more_than_that(tmp_path: Path) -> None:
    # The tolerance above would prove nothing if two epochs changed no more.
    (state, _), (other, _) = (trained(World(), tmp_path / str(seed), seed=seed) for seed in (0, 1))
    assert max(float((state[name] - other[name]).abs().max()) for name in state) > 0.02


def interrupted(world: World, folder: Path) -> list[int]:
    """Train two epochs of three, then all three with the state of the first."""

    def kill(row: Any) -> None:
        if row.epoch == 2:
            raise KeyboardInterrupt

    run = small_runs.run(folder, world=world, **{**SETTINGS, "epochs": 3})
    with contextlib.suppress(KeyboardInterrupt):
        loop.train(run, kill)
    seen: list[int] = []
    run = small_runs.run(folder, world=world, **{**SETTINGS, "epochs": 3})
    loop.train(run, lambda row: seen.append(row.epoch))
    undisturbed = small_runs.run(folder / f"undisturbed{world.rank}", world=world, **{**SETTINGS, "epochs": 3})
    loop.train(undisturbed)
    assert all(
        torch.equal(tensor, classifier.tuned_state(undisturbed.model)[name])
        for name, tensor in classifier.tuned_state(run.model).items()
    )
    return seen


def test_a_killed_training_continues_with_the_same_bytes(tmp_path: Path) -> None:
    assert by_two(interrupted, tmp_path) == [[1, 2, 3], [1, 2, 3]]


def exchanged(world: World, folder: Path) -> dict[str, Any]:
    part = torch.arange(5)[world.share(5)] + 10
    return {
        "gathered": world.gathered(part).tolist(),
        "none": world.gathered(torch.arange(1)[world.share(1)]).tolist(),
        "summed": float(world.summed(torch.tensor(world.rank + 1.0))),
        "same": world.same(f"of {world.rank}"),
        "leads": world.leads,
        "state": (folder / "state").exists(),
    }


def test_what_processes_tell_each_other(tmp_path: Path) -> None:
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
    run = small_runs.run(tmp_path, world=World(0, 4), batch_size=6, accumulate=2)
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


def test_one_process_changes_nothing(tmp_path: Path) -> None:
    run = small_runs.run(tmp_path)
    before = list(run.model.modules())
    data_parallel.spread(run.model, World())
    assert list(run.model.modules()) == before
    assert mite.CLASSES  # the model is the mite's
