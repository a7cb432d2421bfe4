"""Search for the backbone's table of tensors in a checkpoint: by its shapes, in any wrapper, with any prefix."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from adaptformer.backbones import translation
from adaptformer.backbones.foreign_file import printable
from adaptformer.backbones.pickled import Array
from adaptformer.base.errors import UserError

log = logging.getLogger("adaptformer")

_DEPTH = 6
_TENSORS = 20_000
"""The largest number of tensors in a container; the largest models have a few thousand."""

_PREFIXES = 64
"""The largest number of prefixes tried in a container; real files have fewer than ten, a hostile one may have many."""

_ANCHORS = re.compile(
    r"(?:^|(?<=[./]))(?:patch_embed\.proj\.weight|patch_embed\.backbone\..*|blocks\.0\.norm1\.weight|cls_token"
    r"|embeddings\.patch_embeddings\.projection\.weight|embeddings\.cls_token|embedding/kernel)$"
)
"""Tensors that each layout has; the part of a name before one of them is a prefix to try."""

_AVERAGED = re.compile(r"(?:^|[^a-z])(?:ema|teacher|target|momentum|swa|average|averaged)(?:$|[^a-z])", re.IGNORECASE)
"""Names for weights that are a running average of the trained ones."""


class Table(NamedTuple):
    """Tensors of one container of a checkpoint with one prefix, which is removed from their names.

    `place` is the path of containers; `others` is the number of tensors in the container without the prefix.
    """

    place: tuple[str, ...]
    prefix: str
    tensors: dict[str, Tensor]
    others: int

    @property
    def name(self) -> str:
        """Return the containers and the prefix as one name for messages and `backbone.weights`; "" for neither."""
        return printable(".".join([*self.place, *([self.prefix.rstrip("./")] if self.prefix else [])]))

    @property
    def is_averaged(self) -> bool:
        """Whether the name indicates averages of the trained weights."""
        return bool(_AVERAGED.search(self.name))


def choose(tree: Any, expected: dict[str, Tensor], weights: str) -> Table:
    """Return the table that fills `expected`, a VisionTransformer's state on the meta device.

    If several do, `weights` decides: `ema` takes averaged weights if there are any, `raw` takes weights that are not
    averaged, and any other text is the name of a table or a part of it. Raises UserError, which says why the closest
    table does not fit, or names the tables if the choice is ambiguous.
    """
    tables = list(_tables(tree))
    if not tables:
        raise UserError(
            "the checkpoint holds no table of tensors", "give the file with the weights, such as model.safetensors"
        )
    known = {index: translation.coverage(table.tensors, expected) for index, table in enumerate(tables)}
    best = max(known.values())
    nearest = [table for index, table in enumerate(tables) if 2 * known[index] >= best]
    fitting: list[Table] = []
    misfits: list[tuple[int, UserError]] = []
    # If no name is known, the error is about the largest table.
    for table in nearest if best else [max(tables, key=lambda table: len(table.tensors))]:
        try:
            _require_plain(table)
            translation.arrange({name: tensor.to("meta") for name, tensor in table.tensors.items()}, expected)
            fitting.append(table)
        except UserError as error:
            misfits.append((translation.coverage(table.tensors, expected), error))
    if not fitting:
        raise max(misfits, key=lambda misfit: misfit[0])[1]
    preferred = _preferred(fitting, weights)
    _log_choice(preferred, fitting, weights)
    return preferred


def _preferred(fitting: list[Table], weights: str) -> Table:
    """Return the fitting table that `weights` selects. Raises UserError if there is none, or several."""
    if weights in {"ema", "raw"}:
        averaged = [table for table in fitting if table.is_averaged]
        raw = [table for table in fitting if not table.is_averaged]
        candidates = averaged or raw if weights == "ema" else raw
    else:
        candidates = [table for table in fitting if table.name == weights] or [
            table for table in fitting if weights in table.name.split(".")
        ]
    if len(candidates) == 1:
        return candidates[0]
    names = ", ".join(table.name or "(unnamed)" for table in fitting[:8])
    cause = f"backbone.weights = {weights} fits {len(candidates) or 'none'} of the checkpoint's tables: {names}"
    raise UserError(cause, f"set backbone.weights to the name of one, such as {fitting[0].name or 'raw'}")


def _log_choice(best: Table, fitting: list[Table], weights: str) -> None:
    """Log the chosen table if there were others, and its name and prefix if it has any."""
    if best.name:
        left_out = f"; {best.others} tensors beside them are left out" if best.others else ""
        log.info("weights: those named %s%s", best.name, left_out)
    if others := [table.name or "(unnamed)" for table in fitting if table is not best]:
        kind = "an average of the trained ones" if best.is_averaged else "no average"
        log.info("weights: %s (backbone.weights = %s); the file also holds %s", kind, weights, ", ".join(others))


def _tables(tree: Any) -> Iterator[Table]:
    """Yield each container's tensors with each prefix that ends at an anchor; all of them if there is no anchor."""
    for place, tensors in _containers(tree, (), set()):
        if len(tensors) > _TENSORS:
            cause = f"a table of the checkpoint holds {len(tensors)} tensors, more than {_TENSORS}"
            raise UserError(cause, "take a file with the weights of one model")
        prefixes = {name[: match.start()] for name in tensors if (match := _ANCHORS.search(name))}
        for prefix in sorted(prefixes, key=lambda each: (len(each), each))[:_PREFIXES] or [""]:
            below = {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
            yield Table(place, prefix, below, len(tensors) - len(below))


def _containers(tree: Any, place: tuple[str, ...], seen: set[int]) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Yield the place and the tensors of every mapping in nested mappings and lists."""
    if id(tree) in seen or len(place) > _DEPTH or not isinstance(tree, (dict, list, tuple)):
        return
    seen.add(id(tree))
    items = list(tree.items() if isinstance(tree, dict) else enumerate(tree))
    if isinstance(tree, dict):
        tensors = {
            name: tensor for name, value in items if isinstance(name, str) and (tensor := _tensor(value)) is not None
        }
        if tensors:
            yield place, tensors
    for name, value in items:
        yield from _containers(value, (*place, str(name)), seen)


def _tensor(value: Any) -> Tensor | None:
    if isinstance(value, Array):
        return value.tensor()
    # Pickled attributes of a tensor are dropped, because they could replace its methods.
    return torch.Tensor.detach(value) if isinstance(value, Tensor) else None


def _require_plain(table: Table) -> None:
    """Raise UserError unless all tensors of the table are plain and dense, so that each can be moved and compared."""
    for name, tensor in table.tensors.items():
        if kind := _oddity(tensor):
            raise UserError(
                f"{printable(name)} in the checkpoint is {kind}",
                "take a checkpoint with plain numbers (fp32, fp16, bf16), or convert it where it was made",
            )


def _oddity(tensor: Tensor) -> str | None:
    """Return the reason why a tensor is not a plain block of numbers, None for a plain one."""
    if type(tensor) is not Tensor:
        return f"a {type(tensor).__name__}"
    kinds = {
        "a tensor without numbers (meta)": tensor.is_meta,
        "quantised": tensor.is_quantized,
        "sparse": tensor.is_nested or tensor.layout != torch.strided,
        "complex": tensor.is_complex(),
    }
    if applying := [kind for kind, applies in kinds.items() if applies]:
        return applying[0]
    # A view with strides of 0 could have any size.
    claimed = tensor.numel() * tensor.element_size()
    return "larger than its numbers in the file" if claimed > tensor.untyped_storage().nbytes() else None
