"""A training schedule: a list of phases, each naming what trains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Phase:
    """A stretch of epochs with an optimiser of its own, in which exactly the parameters in `trains` change."""

    name: str
    epochs: int
    trains: frozenset[str]


def joint(names: Iterable[str], epochs: int) -> list[Phase]:
    """Return the one phase in which all adapters and the head train together."""
    return [Phase("joint", epochs, frozenset(names))]


def remaining(phases: list[Phase], done: int) -> Iterator[tuple[int, Phase, int]]:
    """Yield each phase that is not over after `done` epochs of the whole schedule: its number, it, its next epoch.

    Numbers and epochs count from 1.
    """
    for number, phase in enumerate(phases, start=1):
        if done < phase.epochs:
            yield number, phase, done + 1
        done = max(0, done - phase.epochs)


def begin(model: nn.Module, phase: Phase) -> list[nn.Parameter]:
    """Freeze all but what the phase names and return that, in the order of the model's parameters.

    Raises ValueError for a name that the model does not have: a misspelt one must not silently train nothing.
    """
    parameters = dict(model.named_parameters())
    if unknown := phase.trains - parameters.keys():
        raise ValueError(f"phase {phase.name} names parameters that do not exist: {sorted(unknown)}")
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in phase.trains)
        parameter.grad = None
    return [parameter for name, parameter in parameters.items() if name in phase.trains]
