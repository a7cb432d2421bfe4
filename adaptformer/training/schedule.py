"""A training schedule: a list of phases, each with the names of the parameters that train."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from adaptformer.base import randomness
from adaptformer.base.errors import UserError
from adaptformer.config.params import TrainingParams
from adaptformer.model.parts import Part
from adaptformer.training.history import EpochRow


@dataclass(frozen=True)
class Phase:
    """A series of epochs with its own optimiser, in which exactly the parameters in `trains` change."""

    name: str
    round: int
    epochs: int
    trains: frozenset[str]


def plan(parts: Mapping[str, Part], params: TrainingParams) -> list[Phase]:
    """Return the phases of a schedule over trainable parameters, given by name with their parts.

    The head trains in every phase. "slotwise" trains one adapter slot of all blocks at a time, as in the original code
    of this idea. "layerwise" trains one block at a time, as in its description, with the loss of the whole model.
    Raises UserError if the method has no parts for the schedule.
    """
    if params.schedule == "joint":
        return [Phase("joint", 1, params.epochs, frozenset(parts))]
    unit: Literal["slot", "block"] = "slot" if params.schedule == "slotwise" else "block"
    head = frozenset(name for name, part in parts.items() if part.kind == "head")
    units: dict[int, set[str]] = {}
    for name, part in parts.items():
        number = part.slot if unit == "slot" else part.block
        if number is not None:
            units.setdefault(number, set()).add(name)
    if not units:
        raise UserError(
            f"training.schedule = {params.schedule} finds no {unit} with anything to train in this model",
            "set adapter.method to adaptformer, or training.schedule to joint",
        )
    return [
        Phase(f"{unit} {number}", sweep, params.epochs, head | units[number])
        for sweep in range(1, params.rounds + 1)
        for number in _ordered(sorted(units), params, sweep)
    ]


def _ordered(numbers: Sequence[int], params: TrainingParams, sweep: int) -> Sequence[int]:
    if params.block_order == "random":
        return [numbers[place] for place in randomness.permutation(len(numbers), "phases", params.seed, sweep)]
    return numbers if params.block_order == "up" else numbers[::-1]


def remaining(phases: list[Phase], rows: Sequence[EpochRow]) -> Iterator[tuple[int, Phase, int]]:
    """Yield (number, phase, next epoch), both numbers from 1, for each phase that is not over after the epochs `rows`.

    A rolled-back phase is over.
    """
    last = rows[-1] if rows else None
    for number, phase in enumerate(phases, start=1):
        if last is None or number > last.phase:
            yield number, phase, 1
        elif number == last.phase and not last.rolled_back and last.epoch < phase.epochs:
            yield number, phase, last.epoch + 1


def begin(model: nn.Module, phase: Phase) -> None:
    """Make exactly the parameters of the phase require gradients, and drop old gradients.

    Raises ValueError for a name that the model does not have: a misspelt name must not silently train nothing.
    """
    parameters = dict(model.named_parameters())
    if unknown := phase.trains - parameters.keys():
        raise ValueError(f"phase {phase.name} names parameters that do not exist: {sorted(unknown)}")
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in phase.trains)
        parameter.grad = None
