"""Epochs of a training as event files for TensorBoard; they are for viewing and are not results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from adaptformer.base.errors import UserError

if TYPE_CHECKING:
    from adaptformer.training.history import EpochRow

_CHARTS = ("loss", "top1")


def writer(folder: Path) -> Callable[[EpochRow], None]:
    """Return a function that adds an epoch to the event files in `folder`; its step counts the epochs of all phases.

    A resumed training reports its first epochs again; TensorBoard then hides those that an earlier process wrote.
    Raises UserError if tensorboard is not installed or the folder cannot be written.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError(
            "runtime.tensorboard names a folder, but tensorboard is not installed",
            "pip install 'adaptformer[tensorboard]', or set runtime.tensorboard to null",
        ) from error
    try:
        # A viewer sees each epoch as soon as it ends.
        events = SummaryWriter(str(folder), purge_step=1, flush_secs=1)
    except OSError as error:
        raise UserError(
            f"cannot write in {folder}: {error.strerror}", "make it writable, or change runtime.tensorboard"
        ) from error
    epochs = 0

    def add(row: EpochRow) -> None:
        nonlocal epochs
        epochs += 1
        for chart in _CHARTS:
            for name, split in (("train", "train"), ("val", "validation")):
                events.add_scalar(f"{chart}/{split}", getattr(row, f"{name}_{chart}"), epochs)
        events.add_scalar("balanced_accuracy/validation", row.val_balanced_accuracy, epochs)
        events.add_scalar("macro_f1/validation", row.val_macro_f1, epochs)
        events.add_scalar("learning_rate", row.lr, epochs)
        events.flush()

    return add
