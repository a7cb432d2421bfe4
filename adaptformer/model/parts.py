"""The part of a classifier to which each parameter belongs: an adapter, prompts, the head, or the backbone.

A module that adds parameters to the backbone declares them itself (`Adds`); parameter names are not interpreted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from torch import nn

if TYPE_CHECKING:
    from adaptformer.model.classifier import Classifier

Kind = Literal["adapter", "prompts", "head", "backbone"]


@dataclass(frozen=True)
class Part:
    """The place of a parameter: `block` and adapter `slot` in that block, both from 0, None if it is in none."""

    kind: Kind
    block: int | None = None
    slot: int | None = None


@runtime_checkable
class Adds(Protocol):
    """A module with parameters that the backbone does not have."""

    def added(self) -> Iterator[tuple[Kind, int | None, nn.Parameter]]:
        """Yield each such parameter, in this module or below, with its kind and, for an adapter, its slot."""
        ...


def parts(model: Classifier) -> dict[str, Part]:
    """Return the part of every parameter of `model`, by name, in the model's order."""
    blocks = {id(parameter): index for index, block in enumerate(model.vit.blocks) for parameter in block.parameters()}
    added = {
        id(parameter): (kind, slot)
        for module in model.modules()
        if isinstance(module, Adds)
        for kind, slot, parameter in module.added()
    }
    part_of = {}
    for name, parameter in model.named_parameters():
        kind, slot = added.get(id(parameter), ("backbone", None))
        part_of[name] = Part(kind, blocks.get(id(parameter)), slot)
    return part_of
