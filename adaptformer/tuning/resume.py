"""The state of a training run that may be killed at any moment: written whole, checked when read."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adaptformer import files
from adaptformer.errors import UserError
from adaptformer.model import tensor_file
from adaptformer.tuning.history import EpochRow

log = logging.getLogger("adaptformer")

FORMAT = 3
_TABLES = ("tuned", "best_tuned", "optimiser", "start")
"""The fields of State that hold tensors."""


@dataclass(frozen=True)
class State:
    """The state of a run after whole epochs.

    `rows` are all epochs so far, so the position is their last phase and epoch; `best` is the index of the chosen one;
    `start` is what was tuned before the present phase began. `seconds` is the training time so far.
    """

    rows: list[EpochRow]
    best: int
    tuned: dict[str, Tensor]
    best_tuned: dict[str, Tensor]
    optimiser: dict[str, Tensor]
    start: dict[str, Tensor]
    seconds: float = 0.0


def save(path: Path, state: State, fingerprint: dict[str, Any]) -> None:
    """Write the state with the fingerprint of the run that it belongs to, and a checksum over both."""
    tensors = {f"{table}/{name}": tensor for table in _TABLES for name, tensor in getattr(state, table).items()}
    metadata = {
        "format": FORMAT,
        "rows": [dataclasses.asdict(row) for row in state.rows],
        "best": state.best,
        "seconds": state.seconds,
        "fingerprint": fingerprint,
        "threads": torch.get_num_threads(),
    }
    tensor_file.write(path, tensors, {**metadata, "checksum": _checksum(tensors, metadata)})


def load(path: Path, fingerprint: dict[str, Any]) -> State | None:
    """Return the state that a killed run of the same fingerprint left, or None: there is none, or it cannot serve.

    Why it cannot is logged. Another thread count resumes, with a warning that the bytes may differ.
    """
    if not path.exists():
        return None
    read = _read(path)
    if read is None:
        log.warning("training starts from the beginning: the earlier state, %s, is damaged or of another format", path)
        return None
    tensors, metadata = read
    if metadata["fingerprint"] != fingerprint:
        before = metadata["fingerprint"]
        changed = sorted(key for key in before | fingerprint if before.get(key) != fingerprint.get(key))
        log.warning("training starts from the beginning: since the run before, %s changed", ", ".join(changed))
        return None
    if metadata["threads"] != torch.get_num_threads():
        log.warning(
            "training resumes with %d threads instead of %d: the results may differ in their last bits",
            torch.get_num_threads(),
            metadata["threads"],
        )
    tables: dict[str, dict[str, Tensor]] = {table: {} for table in _TABLES}
    for key, tensor in tensors.items():
        table, _, name = key.partition("/")
        tables[table][name] = tensor
    rows = [EpochRow(**row) for row in metadata["rows"]]
    return State(rows, metadata["best"], **tables, seconds=metadata["seconds"])


def seconds(path: Path, fingerprint: dict[str, Any]) -> float:
    """Return the training time of the state that a killed run of the same fingerprint left at `path`; 0 without one."""
    read = _read(path)
    return float(read[1]["seconds"]) if read and read[1]["fingerprint"] == fingerprint else 0.0


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Return tensors and metadata of a whole state of this format, else None."""
    try:
        tensors, metadata = tensor_file.read(path)
    except UserError:
        return None
    checksum = metadata.pop("checksum", None)
    sound = metadata.get("format") == FORMAT and checksum == _checksum(tensors, metadata)
    return (tensors, metadata) if sound else None


def _checksum(tensors: dict[str, Tensor], metadata: dict[str, Any]) -> str:
    return files.sha256_text(tensor_file.content_hash(tensors) + files.canonical_json(metadata))
