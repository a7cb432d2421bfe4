"""Event files, as TensorBoard reads them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from adaptformer.base.errors import UserError
from adaptformer.training import tensorboard
from adaptformer.training.history import EpochRow


def row(epoch: int, phase: int = 1) -> EpochRow:
    at = epoch + 10 * phase
    return EpochRow(1, phase, epoch, 0.5 * at, 1.0 * at, 2.0 * at, 3.0 * at, 4.0 * at, 5.0 * at, 6.0 * at, 0)


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    found = EventAccumulator(str(folder))
    found.Reload()
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_every_figure_of_an_epoch_is_there_over_all_phases(tmp_path: Path) -> None:
    add = tensorboard.writer(tmp_path)
    add(row(1))
    add(row(1, phase=2))
    steps = {
        "learning_rate": 0.5, "loss/train": 1, "top1/train": 2, "loss/validation": 3, "top1/validation": 4,
        "balanced_accuracy/validation": 5, "macro_f1/validation": 6,
    }  # fmt: skip
    assert read(tmp_path) == {name: [(1, 11 * factor), (2, 21 * factor)] for name, factor in steps.items()}


def test_a_resumed_training_has_each_epoch_once(tmp_path: Path) -> None:
    for epochs in ((1, 2), (1, 2, 3)):
        add = tensorboard.writer(tmp_path)
        for epoch in epochs:
            add(row(epoch))
    assert [step for step, _ in read(tmp_path)["loss/train"]] == [1, 2, 3]


def test_a_folder_that_cannot_be_written_and_a_package_that_is_missing_are_one_line_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write in "):
        tensorboard.writer(tmp_path / "file" / "events")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match="tensorboard is not installed"):
        tensorboard.writer(tmp_path)
