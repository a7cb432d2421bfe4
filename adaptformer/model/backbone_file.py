"""The backbone file of a run: the encoder's tensors under timm's names, with their card."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from adaptformer.base import array_file, integrity
from adaptformer.base.errors import UserError
from adaptformer.model import tensor_file
from adaptformer.model.backbone import FETCH
from adaptformer.model.backbone_card import BackboneCard


def write(path: Path, tensors: dict[str, Tensor], card: BackboneCard) -> None:
    """Write a backbone with its card."""
    tensor_file.write(path, tensors, asdict(card))


def read(path: Path) -> tuple[dict[str, Tensor], BackboneCard]:
    """Return a backbone's tensors and card. Raises UserError if the file is damaged or holds other weights."""
    tensors, metadata = tensor_file.read(path, FETCH, data=False)  # verified below: every card, old or new, has a hash
    card = _card(path, metadata)
    if tensor_file.content_hash(tensors) != card.sha256:
        raise integrity.altered(path, FETCH)
    return tensors, card


def read_card(path: Path) -> BackboneCard:
    """Return a backbone's card, verified, without reading its tensors. Raises UserError if the file is damaged."""
    return _card(path, array_file.read_metadata(path, FETCH))


def _card(path: Path, metadata: dict[str, Any]) -> BackboneCard:
    try:
        return BackboneCard.from_dict(metadata)
    except ValueError as error:
        raise UserError(f"{path} is no backbone of a run: {error}", FETCH) from error
