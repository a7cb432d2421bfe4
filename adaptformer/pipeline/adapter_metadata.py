"""A training by its files, read without torch, whose import takes seconds: metadata, and whether to train longer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adaptformer.base import array_file
from adaptformer.training.history import EpochRow


def card(path: Path) -> dict[str, Any]:
    """Return an adapter file's metadata. Raises UserError if the file was altered or is damaged."""
    return array_file.read_metadata(path, "train again: `adaptformer train`")


def longer(card: Mapping[str, Any], rows: Sequence[EpochRow]) -> str:
    """Return a sentence that proposes more epochs if the last one was the best; "" if it was not.

    `card` is the metadata of the adapter file, `rows` are the history. A schedule of several phases has no such
    sentence: its last phase trains only a part of the model.
    """
    epochs = len(rows)
    if card["epoch"] < epochs or any(row.phase > 1 for row in rows):
        return ""
    which = "the only epoch was" if epochs == 1 else f"the last of {epochs} epochs was"
    return f"{which} the best on the validation split; train longer: training.epochs={2 * epochs}"
