"""Fetching of a pretrained checkpoint: locates and verifies its file, and translates its tensors to timm's names."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from adaptformer.backbones import catalogue, foreign_file, source, tensor_search
from adaptformer.backbones.translation import translate
from adaptformer.base.errors import UserError
from adaptformer.config.params import BackboneParams
from adaptformer.model import backbone, tensor_file
from adaptformer.model.backbone_card import UNKNOWN, BackboneCard

log = logging.getLogger("adaptformer")

_Channel = Annotated[float, Field(strict=True, ge=0, le=1)]
_Spread = Annotated[float, Field(strict=True, gt=0, le=100)]
_Triple = tuple[float, float, float]
_Line = Annotated[str, Field(strict=True, min_length=1, max_length=2000)]


class _Provenance(BaseModel):
    """The required content of a checkpoint's own metadata, if it has any; the rest of its card is computed here."""

    model_config = ConfigDict(extra="ignore")

    mean: tuple[_Channel, _Channel, _Channel]
    std: tuple[_Spread, _Spread, _Spread]
    licence: _Line
    note: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None


def fetch(settings: BackboneParams) -> tuple[dict[str, Tensor], BackboneCard]:
    """Return the encoder tensors of `settings.checkpoint` under timm's names, and their card.

    Raises UserError for a file that cannot be fetched, is damaged, has another hash, is unsafe to load, has a licence
    that is not allowed or not known, or does not match the tensors of `settings.model` exactly.
    """
    model, file = settings.model, source.locate(settings)
    parts = foreign_file.parts(file.path)
    source_sha256 = foreign_file.sha256(parts)
    if file.sha256 not in {None, source_sha256}:
        raise UserError(
            f"{file.origin} has sha256 {source_sha256}, not backbone.sha256 = {file.sha256}",
            "fetch the file again, or correct backbone.sha256 if you meant this file",
        )
    # At the architecture's own image size, for which checkpoints have position embeddings. Only shapes are needed.
    with torch.device("meta"):
        expected = backbone.build(model).state_dict()
    content = foreign_file.read_foreign(parts)
    card = _card(file.path, content.metadata)
    table = tensor_search.choose(content.tree, expected, settings.weights)
    tensors = translate(table.tensors, expected)
    own_hash = tensor_file.content_hash(tensors)
    if card is not None and card.sha256 not in {None, own_hash}:
        raise UserError(f"the weights in {file.path.name} do not match its own sha256", "fetch the file again")
    provenance = _provenance(settings, card, file, catalogue.of_file(source_sha256))
    catalogue.allow(provenance["licence"], settings.allowed_licences, file.origin)
    return tensors, BackboneCard(
        model=model,
        origin=file.origin,
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


def _provenance(
    settings: BackboneParams, card: _Provenance | None, file: source.Source, entry: catalogue.Entry | None
) -> dict[str, Any]:
    """Return licence, normalisation, and a note on who states them.

    The file's own card counts first, then the catalogue's entry for exactly these bytes, then the hub. The values
    of `backbone.licence`, `mean` and `std` replace all of these, and the note says so. No licence is
    guessed from the name of an architecture.
    """
    stated = [
        *([source.Licence(card.licence, "the file's own card")] if card else []),
        *([source.Licence(entry.licence, "the catalogue")] if entry else []),
        *([file.licence] if file.licence else []),
    ]
    licence, by = stated[0] if stated else (UNKNOWN, "nobody")
    notes = [card.note] if card else [f"licence stated by {by}"]
    if settings.licence:
        other = "" if licence.lower() in {settings.licence.lower(), UNKNOWN} else f", but {by} states {licence}"
        notes = [*([card.note] if card else []), f"licence claimed by the user in backbone.licence{other}"]
        if other:
            log.warning("warning: %s: %s", file.origin, notes[-1])
    mean, std, normalised = _normalisation(settings, card, entry)
    return {
        "licence": settings.licence or licence,
        "mean": mean,
        "std": std,
        "note": "; ".join([*notes, *([normalised] if normalised else [])]),
    }


def _normalisation(
    settings: BackboneParams, card: _Provenance | None, entry: catalogue.Entry | None
) -> tuple[_Triple, _Triple, str]:
    """Return mean and std, and a note on who states them, empty if it is the file itself."""
    if settings.mean and settings.std:
        return settings.mean, settings.std, "normalisation given by the user in backbone.mean and backbone.std"
    if card:
        return card.mean, card.std, ""
    if entry:
        return *entry.normalisation, "normalisation stated by the catalogue"
    # A plain architecture name would silently mean timm's default weights, whose normalisation may differ.
    if "." in settings.model and (config := backbone.published(settings.model)):
        return tuple(config.mean), tuple(config.std), f"normalisation as timm states it for {settings.model}"
    raise UserError(
        f"neither the checkpoint nor backbone.model = {settings.model} states the normalisation",
        "set backbone.mean and backbone.std, or a backbone.model with exact weights, such as vit_base_patch16_224.mae",
    )
