"""The history of a training run: one row per epoch, its CSV file and its plot."""

from __future__ import annotations

import dataclasses
import io
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adaptformer.base import csv_file, files


@dataclass(frozen=True)
class EpochRow:
    """One epoch; `round`, `phase` (in the whole schedule) and `epoch` (in its phase) count from 1.

    Losses are mean cross-entropies in nats, accuracies are fractions of 1. `rolled_back` is 1 in the last row of a
    phase that was rolled back.
    """

    round: int
    phase: int
    epoch: int
    lr: float
    train_loss: float
    train_top1: float
    val_loss: float
    val_top1: float
    val_balanced_accuracy: float
    val_macro_f1: float
    rolled_back: int


def write(path: Path, rows: Sequence[EpochRow]) -> None:
    """Write the rows as CSV."""
    text = io.StringIO()
    writer = csv_file.Writer(text)
    writer.row(field.name for field in dataclasses.fields(EpochRow))
    for row in rows:
        writer.row(dataclasses.astuple(row))
    files.write_text(path, text.getvalue())


def read(path: Path) -> list[EpochRow]:
    """Return the rows of a history file."""
    kinds = typing.get_type_hints(EpochRow)
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv_file.rows(file)
    return [EpochRow(**{name: kinds[name](value) for name, value in zip(header, row, strict=True)}) for row in rows]


def draw(path: Path, rows: Sequence[EpochRow], best: EpochRow) -> None:
    """Draw loss and top-1 of both splits over the epochs as PNG, the chosen epoch marked."""
    from matplotlib.figure import Figure  # slow to import, and needed once per run

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    epochs = range(1, len(rows) + 1)
    left, right = figure.subplots(1, 2)
    for axes, name, label in ((left, "loss", "cross-entropy"), (right, "top1", "top-1")):
        axes.plot(epochs, [getattr(row, f"train_{name}") for row in rows], label="train (augmented)", color="#9aa5b1")
        axes.plot(epochs, [getattr(row, f"val_{name}") for row in rows], label="validation", color="#0b6e99")
        axes.plot(rows.index(best) + 1, getattr(best, f"val_{name}"), "o", color="#d1495b", label="chosen epoch")
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    right.legend(frameon=False)
    with files.replacing(path) as new_file:
        figure.savefig(new_file, dpi=120, metadata={"Software": None})
