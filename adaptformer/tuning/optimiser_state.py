"""An optimiser's state as a flat table of tensors, so that it is kept without pickles."""

from __future__ import annotations

from torch import Tensor
from torch.optim import Optimizer


def pack(optimiser: Optimizer) -> dict[str, Tensor]:
    """Return the state of every parameter under `<index>.<name>`; all torch optimisers used here keep tensors only."""
    return {
        f"{index}.{name}": value
        for index, entries in optimiser.state_dict()["state"].items()
        for name, value in entries.items()
        if isinstance(value, Tensor)
    }


def unpack(optimiser: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give a fresh optimiser over the same parameters the packed state; its settings stay its own."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
