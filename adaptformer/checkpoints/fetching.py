"""Fetching of a pretrained checkpoint: locates and verifies its file, and translates its tensors to timm's names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from adaptformer.base.errors import UserError
from adaptformer.checkpoints import catalogue, foreign_file, source, tables
from adaptformer.checkpoints.translation import translate
from adaptformer.model import backbone, tensor_file
from adaptformer.model.backbone_card import BackboneCard

_Channel = Annotated[float, Field(strict=True, ge=0, le=1)]
_Spread = Annotated[float, Field(strict=True, gt=0, le=100)]
_Line = Annotated[str, Field(strict=True, min_length=1, max_length=2000)]


class _Provenance(BaseModel):
    """The required content of a checkpoint's own metadata, if it has any; the rest of its card is computed here."""

    model_config = ConfigDict(extra="ignore")

    mean: tuple[_Channel, _Channel, _Channel]
    std: tuple[_Spread, _Spread, _Spread]
    licence: _Line
    note: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None


def fetch(
    model: str, checkpoint: str, sha256: str | None, allowed_licences: Sequence[str], weights: str = "ema"
) -> tuple[dict[str, Tensor], BackboneCard]:
    """Return the encoder tensors of `checkpoint` under timm's names, and their card.

    `checkpoint` is in a form that `source.locate` understands; `sha256`, if given, must be the hash of the file;
    `weights` selects a table if the file holds several that fit (`tables.choose`). Raises UserError for a file that
    cannot be fetched, is damaged, has another hash, is unsafe to load, has a licence that is not allowed, or does not
    match the tensors of `model` exactly.
    """
    if source.is_remote(checkpoint) and (published := backbone.published(model)) and published.license:
        # Checked first, so that no one downloads a gigabyte that is then refused.
        catalogue.allow(published.license, allowed_licences, f"backbone.model = {model}")
    path, origin, expected_sha256 = source.locate(model, checkpoint, sha256, allowed_licences)
    parts = foreign_file.parts(path)
    source_sha256 = foreign_file.sha256(parts)
    if expected_sha256 not in {None, source_sha256}:
        raise UserError(
            f"{origin} has sha256 {source_sha256}, not backbone.sha256 = {expected_sha256}",
            "fetch the file again, or correct backbone.sha256 if you meant this file",
        )
    # At the architecture's own image size, for which checkpoints have position embeddings. Only shapes are needed.
    with torch.device("meta"):
        expected = backbone.build(model).state_dict()
    content = foreign_file.read_foreign(parts)
    card = _card(path, content.metadata)
    table = tables.choose(content.tree, expected, weights)
    tensors = translate(table.tensors, expected)
    own_hash = tensor_file.content_hash(tensors)
    if card is not None and card.sha256 not in {None, own_hash}:
        raise UserError(f"the weights in {path.name} do not match its own sha256", "fetch the file again")
    provenance = _provenance(model, card)
    catalogue.allow(provenance["licence"], allowed_licences, origin)
    return tensors, BackboneCard(
        model=model,
        origin=origin,
        parameters=sum(tensor.numel() for tensor in tensors.values()),
        sha256=own_hash,
        source_sha256=source_sha256,
        **provenance,
    )


def _card(path: Path, metadata: Any) -> _Provenance | None:
    """Return the provenance in the file's metadata, None if it has no metadata.

    Raises UserError for metadata that are incomplete or of other types, and for those of an adapter file.
    """
    if metadata == {}:
        return None
    if isinstance(metadata, dict) and "adapter" in metadata:
        raise UserError(f"{path} is an adapter file, not a checkpoint", "give the backbone's own file")
    try:
        return _Provenance.model_validate(metadata)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "metadata"
        raise UserError(
            f"{path} has a damaged or incomplete card ({where}: {first['msg']})",
            "fetch it again from its publisher, or take the checkpoint that it was made from",
        ) from error


def _provenance(model: str, card: _Provenance | None) -> dict[str, Any]:
    """Return licence, normalisation and note from the file itself, else from timm's entry for exactly these weights."""
    if card is not None:
        return card.model_dump(exclude={"sha256"})
    # A plain architecture name would silently mean timm's default weights, whose normalisation may differ.
    if "." not in model or (config := backbone.published(model)) is None:
        raise UserError(
            f"neither the checkpoint nor backbone.model = {model} states the normalisation",
            "name the exact weights as timm does, for example vit_base_patch16_224.mae",
        )
    return {
        "licence": config.license or "unknown",
        "mean": tuple(config.mean),
        "std": tuple(config.std),
        "note": f"normalisation and licence as timm states them for {model}",
    }
