"""A training schedule: a list of phases, each naming what trains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from adaptformer import randomness
from adaptformer.errors import UserError
from adaptformer.params import TuningParams
from adaptformer.tuning.history import EpochRow


@dataclass(frozen=True)
class Phase:
    """A stretch of epochs with an optimiser of its own, in which exactly the parameters in `trains` change."""

    name: str
    round: int
    epochs: int
    trains: frozenset[str]


def plan(names: Iterable[str], params: TuningParams, *, slots: int, depth: int) -> list[Phase]:
    """Return the phases of a schedule over the trainable parameters `names`; the head trains in each of them.

    "slotwise" takes one adapter slot of all blocks at a time, as the seed of this idea is coded; "layerwise" one block
    at a time, as it is described, with the loss of the whole model. Raises UserError for a schedule that the method has
    no parts for.
    """
    names = frozenset(names)
    if params.schedule == "joint":
        return [Phase("joint", 1, params.epochs, names)]
    head = frozenset(name for name in names if name.startswith("head"))
    slotwise = params.schedule == "slotwise"
    phases = []
    for sweep in range(1, params.rounds + 1):
        for part in _ordered(slots if slotwise else depth, params, sweep):
            name = f"{'slot' if slotwise else 'block'} {part}"
            mark = f".adapters.{part}." if slotwise else f"vit.blocks.{part}."
            chosen = frozenset(full for full in names if mark in full)
            if not chosen:
                raise UserError(
                    f"tuning.schedule = {params.schedule} finds nothing to train in {name}",
                    "use it with adapter.method = adaptformer, or set tuning.schedule to joint",
                )
            phases.append(Phase(name, sweep, params.epochs, chosen | head))
    return phases


def _ordered(count: int, params: TuningParams, sweep: int) -> Sequence[int]:
    if params.order == "random":
        return [int(part) for part in randomness.permutation(count, "phases", params.seed, sweep)]
    return range(count) if params.order == "up" else range(count - 1, -1, -1)


def remaining(phases: list[Phase], rows: Sequence[EpochRow]) -> Iterator[tuple[int, Phase, int]]:
    """Yield each phase that is not over after the epochs `rows`: its number, it, its next epoch, both from 1.

    A rolled-back phase is over.
    """
    last = rows[-1] if rows else None
    for number, phase in enumerate(phases, start=1):
        if last is None or number > last.phase:
            yield number, phase, 1
        elif number == last.phase and not last.rolled_back and last.epoch < phase.epochs:
            yield number, phase, last.epoch + 1


def begin(model: nn.Module, phase: Phase) -> None:
    """Let exactly the parameters that the phase names require gradients, and drop old gradients.

    Raises ValueError for a name that the model does not have: a misspelt one must not silently train nothing.
    """
    parameters = dict(model.named_parameters())
    if unknown := phase.trains - parameters.keys():
        raise ValueError(f"phase {phase.name} names parameters that do not exist: {sorted(unknown)}")
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in phase.trains)
        parameter.grad = None
