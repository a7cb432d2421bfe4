"""The saved state of a training run, which may be killed at any moment: written whole, verified when read."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adaptformer.base.errors import UserError
from adaptformer.model import tensor_file
from adaptformer.tuning.history import EpochRow

log = logging.getLogger("adaptformer")

FORMAT = 6
_TABLES = ("tuned", "best_tuned", "optimiser", "start")
"""The fields of State that hold tensors."""


@dataclass(frozen=True)
class Partial:
    """The first `steps` of an epoch: the sum of their losses, and the number of correctly classified images."""

    steps: int
    loss_sum: float
    correct: float


@dataclass(frozen=True)
class State:
    """The state of a run after an epoch, or after some steps of the next one.

    `rows` are all complete epochs; the last one gives the present phase and epoch. `partial` holds the steps done of
    the next epoch. `best` is the index of the best row. `start` holds the tuned tensors from before the present phase;
    it is empty in a phase that cannot be rolled back. `optimiser` is empty after the last epoch of a phase. `seconds`
    is the training time. `earlier_code` holds the hash of each earlier version of the code that trained a part of it.
    """

    rows: list[EpochRow]
    best: int
    tuned: dict[str, Tensor]
    best_tuned: dict[str, Tensor]
    optimiser: dict[str, Tensor]
    start: dict[str, Tensor]
    seconds: float = 0.0
    partial: Partial | None = None
    earlier_code: tuple[str, ...] = ()


def save(path: Path, state: State, fingerprint: dict[str, Any], processes: int = 1) -> None:
    """Write the state with the fingerprint of its run.

    The previous state is kept beside it, in case the new one is damaged later.
    """
    present = {table: getattr(state, table) for table in _TABLES}
    if _best_is_last(state):
        present["best_tuned"] = {}  # the same tensors as `tuned`
    tensors = {f"{table}/{name}": tensor for table, named in present.items() for name, tensor in named.items()}
    metadata = {
        "format": FORMAT,
        "rows": [dataclasses.asdict(row) for row in state.rows],
        "best": state.best,
        "seconds": state.seconds,
        "partial": None if state.partial is None else dataclasses.asdict(state.partial),
        "fingerprint": fingerprint,
        "threads": torch.get_num_threads(),
        "processes": processes,
        "earlier_code": list(state.earlier_code),
    }
    if path.exists():
        path.replace(_before(path))
    tensor_file.write(path, tensors, metadata)


def remove(path: Path) -> None:
    """Remove the states of a finished run."""
    for state in (path, _before(path), *_kept(path)):
        state.unlink(missing_ok=True)


def load(path: Path, fingerprint: dict[str, Any], processes: int = 1, any_code: bool = False) -> State | None:
    """Return the state of a killed run with the same fingerprint, or None if there is no usable one.

    The reason is logged if a state cannot be used. If the last state is damaged, the previous one is used. With another
    number of threads or processes the run resumes, with a warning that the bytes may differ. A state of other code is
    kept beside the new ones; with `any_code` the state of the longest training is returned, whichever code made it.
    """
    read = _longest(path, fingerprint) if any_code else _latest(path)
    if path.exists() and _read(path) is None:
        what = "resumes from the previous state" if read else "starts from the beginning"
        log.warning("training %s: its state %s is damaged or of another format", what, path)
    if read is None:
        return None
    tensors, metadata = read
    before = metadata["fingerprint"]
    if before != fingerprint:
        changed = _changed(before, fingerprint)
        if changed != ["code"]:
            log.warning("training starts from the beginning: since the previous run, %s changed", ", ".join(changed))
            return None
        if not any_code:
            log.warning(
                "training starts from the beginning: since the previous run, the code changed; its state is kept as "
                "%s, and `runtime.resume=any_code` continues it", _keep(path, before["code"]),
            )  # fmt: skip
            return None
        log.warning("training resumes with other code than before: the adapter's card names all of it")
    for what, number in (("threads", torch.get_num_threads()), ("processes", processes)):
        if metadata[what] != number:
            log.warning(
                "training resumes with %d %s instead of %d: the results may differ in their last bits",
                number, what, metadata[what],
            )  # fmt: skip
    tables: dict[str, dict[str, Tensor]] = {table: {} for table in _TABLES}
    for key, tensor in tensors.items():
        table, _, name = key.partition("/")
        tables[table][name] = tensor
    partial = metadata["partial"] and Partial(**metadata["partial"])
    rows = [EpochRow(**row) for row in metadata["rows"]]
    codes = [*metadata.get("earlier_code", ()), *([before["code"]] if before != fingerprint else [])]
    state = State(
        rows, metadata["best"], **tables, seconds=metadata["seconds"], partial=partial, earlier_code=tuple(codes)
    )
    if _best_is_last(state):
        state = dataclasses.replace(state, best_tuned=state.tuned)
    return state


def seconds(path: Path, fingerprint: dict[str, Any], any_code: bool = False) -> float:
    """Return the training time of the state that `load` would return, or 0 if there is none."""
    read = _longest(path, fingerprint) if any_code else _latest(path)
    changed = _changed(read[1]["fingerprint"], fingerprint) if read else []
    return float(read[1]["seconds"]) if read and (not changed or (any_code and changed == ["code"])) else 0.0


def codes(path: Path, fingerprint: dict[str, Any]) -> tuple[str, ...]:
    """Return the hashes of all code that the state at `path` was trained with, in order; none if there was only one."""
    read = _latest(path)
    earlier = read[1].get("earlier_code", ()) if read else ()
    return (*earlier, fingerprint["code"]) if earlier else ()


def _changed(before: dict[str, Any], fingerprint: dict[str, Any]) -> list[str]:
    return sorted(key for key in before | fingerprint if before.get(key) != fingerprint.get(key))


def _keep(path: Path, code: str) -> Path:
    """Move the last whole state aside, where a fresh start does not overwrite it, and return its new place."""
    kept = path.with_suffix(f".code-{code[:8]}{path.suffix}")
    (path if _read(path) else _before(path)).replace(kept)
    return kept


def _kept(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.stem}.code-*{path.suffix}"))


def _longest(path: Path, fingerprint: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Return the state of the longest training among those of this fingerprint but for the code, or the last state."""

    def length(read: tuple[dict[str, Tensor], dict[str, Any]]) -> tuple[int, int]:
        partial = read[1]["partial"]
        return len(read[1]["rows"]), partial["steps"] if partial else 0

    states = [state for state in (_latest(path), *map(_read, _kept(path))) if state]
    fitting = [state for state in states if _changed(state[1]["fingerprint"], fingerprint) in ([], ["code"])]
    return max(fitting, key=length) if fitting else _latest(path)


def _before(path: Path) -> Path:
    return path.with_suffix(f".before{path.suffix}")


def _best_is_last(state: State) -> bool:
    """Return whether the present tensors are the best ones, so that one copy is enough."""
    return state.partial is None and state.best == len(state.rows) - 1 >= 0 and not state.rows[-1].rolled_back


def _latest(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Return the last undamaged state."""
    return next((found for found in map(_read, (path, _before(path))) if found), None)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Return tensors and metadata of an undamaged state of this format, else None."""
    try:
        tensors, metadata = tensor_file.read(path)
    except UserError:  # a missing file raises it too
        return None
    return (tensors, metadata) if metadata.get("format") == FORMAT else None
