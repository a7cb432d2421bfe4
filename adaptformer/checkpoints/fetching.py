"""A pretrained checkpoint, fetched, verified and translated to the names of timm's tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from adaptformer import files
from adaptformer.checkpoints import catalogue, foreign_file, source
from adaptformer.checkpoints.translation import translate
from adaptformer.errors import UserError
from adaptformer.model import backbone, tensor_file
from adaptformer.model.backbone_card import BackboneCard


def fetch(
    model: str, checkpoint: str, sha256: str | None, allowed_licences: Sequence[str]
) -> tuple[dict[str, Tensor], BackboneCard]:
    """Return the encoder tensors of `checkpoint` under timm's names, and their card.

    `checkpoint` is what `source.locate` understands; `sha256`, where given, is what the file's bytes must have. Raises
    UserError for a file that cannot be fetched, is damaged, has another hash, is unsafe to load, has a licence that is
    not allowed, or does not match the tensors of `model` exactly.
    """
    if source.is_remote(checkpoint) and (published := backbone.published(model)) and published.license:
        # Nobody should wait for a gigabyte that is then refused.
        catalogue.allow(published.license, allowed_licences, f"backbone.model = {model}")
    path, origin, expected_sha256 = source.locate(model, checkpoint, sha256, allowed_licences)
    source_sha256 = files.sha256_file(path)
    if expected_sha256 not in {None, source_sha256}:
        raise UserError(
            f"{origin} has sha256 {source_sha256}, not backbone.sha256 = {expected_sha256}",
            "fetch the file again, or correct backbone.sha256 if you meant this file",
        )
    if path.suffix == ".safetensors":
        foreign, metadata = tensor_file.read(path)
    else:
        foreign, metadata = foreign_file.read_foreign(path), {}
    # The architecture's own image size: what the checkpoint's position embeddings are for. Only its shapes are needed.
    with torch.device("meta"):
        expected = backbone.build(model).state_dict()
    tensors = translate(foreign, expected)
    own_hash = tensor_file.content_hash(tensors)
    if metadata.get("sha256", own_hash) != own_hash:
        raise UserError(f"{path.name} does not hold the weights that it names", "fetch the file again")
    provenance = _provenance(model, metadata)
    catalogue.allow(provenance["licence"], allowed_licences, origin)
    return tensors, BackboneCard(
        model=model,
        origin=origin,
        parameters=sum(tensor.numel() for tensor in tensors.values()),
        sha256=own_hash,
        source_sha256=source_sha256,
        **provenance,
    )


def _provenance(model: str, metadata: dict[str, Any]) -> dict[str, Any]:
    """Return licence, normalisation and note: from the file itself, else from timm's entry for these exact weights."""
    if "mean" in metadata:
        normalisation = {name: tuple(metadata[name]) for name in ("mean", "std")}
        return {**normalisation, "licence": metadata["licence"], "note": metadata["note"]}
    # A plain architecture name would silently mean timm's default weights, whose normalisation is another one.
    if "." not in model or (config := backbone.published(model)) is None:
        raise UserError(
            f"the checkpoint does not say its normalisation, nor does backbone.model = {model}",
            "name the exact weights as timm does, for example vit_base_patch16_224.mae",
        )
    return {
        "licence": config.license or "unknown",
        "mean": tuple(config.mean),
        "std": tuple(config.std),
        "note": f"normalisation and licence as timm states them for {model}",
    }
