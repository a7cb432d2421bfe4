"""The saved state of a training run, which may be killed at any moment: written whole, verified when read."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from adaptformer.base.errors import UserError
from adaptformer.model import tensor_file
from adaptformer.training.history import EpochRow

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
    stored = _longest(path, fingerprint) if any_code else _latest(path)
    if path.exists() and _read(path) is None:
        consequence = "resumes from the previous state" if stored else "starts from the beginning"
        log.warning("training %s: its state %s is damaged or of another format", consequence, path)
    if stored is None or not _continues(path, stored, fingerprint, any_code):
        return None
    for name, number in (("threads", torch.get_num_threads()), ("processes", processes)):
        if stored.metadata[name] != number:
            log.warning(
                "training resumes with %d %s instead of %d: the results may differ in their last bits",
                number, name, stored.metadata[name],
            )  # fmt: skip
    return stored.state(fingerprint)


class _Stored(NamedTuple):
    """The tensors and the metadata of a state's file."""

    tensors: dict[str, Tensor]
    metadata: dict[str, Any]

    @property
    def length(self) -> tuple[int, int]:
        """The trained epochs and the steps of the next one."""
        partial = self.metadata["partial"]
        return len(self.metadata["rows"]), partial["steps"] if partial else 0

    def changed(self, fingerprint: dict[str, Any]) -> list[str]:
        """Return the entries of the fingerprint that differ from those of the state."""
        before = self.metadata["fingerprint"]
        return sorted(key for key in before | fingerprint if before.get(key) != fingerprint.get(key))

    def state(self, fingerprint: dict[str, Any]) -> State:
        """Return the state; its code is an earlier one if it differs from that of the fingerprint."""
        tables: dict[str, dict[str, Tensor]] = {table: {} for table in _TABLES}
        for key, tensor in self.tensors.items():
            table, _, name = key.partition("/")
            tables[table][name] = tensor
        metadata = self.metadata
        before = metadata["fingerprint"]
        state = State(
            [EpochRow(**row) for row in metadata["rows"]],
            metadata["best"],
            **tables,
            seconds=metadata["seconds"],
            partial=metadata["partial"] and Partial(**metadata["partial"]),
            earlier_code=(*metadata.get("earlier_code", ()), *([before["code"]] if before != fingerprint else [])),
        )
        return dataclasses.replace(state, best_tuned=state.tuned) if _best_is_last(state) else state


def _continues(path: Path, stored: _Stored, fingerprint: dict[str, Any], any_code: bool) -> bool:
    """Return whether a run of this fingerprint can continue the state; log the reason if not."""
    changed = stored.changed(fingerprint)
    if not changed:
        return True
    if changed != ["code"]:
        log.warning("training starts from the beginning: since the previous run, %s changed", ", ".join(changed))
        return False
    if any_code:
        log.warning("training resumes with other code than before: the adapter's card names all of it")
        return True
    log.warning(
        "training starts from the beginning: since the previous run, the code changed; its state is kept as "
        "%s, and `runtime.resume=any_code` continues it", _keep(path, stored.metadata["fingerprint"]["code"]),
    )  # fmt: skip
    return False


def seconds(path: Path, fingerprint: dict[str, Any], any_code: bool = False) -> float:
    """Return the training time of the state that `load` would return, or 0 if there is none."""
    stored = _longest(path, fingerprint) if any_code else _latest(path)
    if stored is None or stored.changed(fingerprint) not in ([], ["code"] if any_code else []):
        return 0.0
    return float(stored.metadata["seconds"])


def codes(path: Path, fingerprint: dict[str, Any]) -> tuple[str, ...]:
    """Return the hashes of all code that the state at `path` was trained with, in order; none if there was only one."""
    stored = _latest(path)
    earlier = stored.metadata.get("earlier_code", ()) if stored else ()
    return (*earlier, fingerprint["code"]) if earlier else ()


def _keep(path: Path, code: str) -> Path:
    """Move the last whole state aside, where a fresh start does not overwrite it, and return its new place."""
    kept = path.with_suffix(f".code-{code[:8]}{path.suffix}")
    (path if _read(path) else _before(path)).replace(kept)
    return kept


def _kept(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.stem}.code-*{path.suffix}"))


def _longest(path: Path, fingerprint: dict[str, Any]) -> _Stored | None:
    """Return the state of the longest training among those of this fingerprint but for the code, or the last state."""
    states = [state for state in (_latest(path), *map(_read, _kept(path))) if state]
    fitting = [state for state in states if state.changed(fingerprint) in ([], ["code"])]
    return max(fitting, key=lambda state: state.length) if fitting else _latest(path)


def _before(path: Path) -> Path:
    return path.with_suffix(f".before{path.suffix}")


def _best_is_last(state: State) -> bool:
    """Return whether the present tensors are the best ones, so that one copy is enough."""
    return state.partial is None and state.best == len(state.rows) - 1 >= 0 and not state.rows[-1].rolled_back


def _latest(path: Path) -> _Stored | None:
    """Return the last undamaged state."""
    return next((stored for stored in map(_read, (path, _before(path))) if stored), None)


def _read(path: Path) -> _Stored | None:
    """Return tensors and metadata of an undamaged state of this format, else None."""
    try:
        stored = _Stored(*tensor_file.read(path))
    except UserError:  # a missing file raises it too
        return None
    return stored if stored.metadata.get("format") == FORMAT else None
