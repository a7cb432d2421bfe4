"""The adapter file: what training makes, a few megabytes that load only onto the backbone they were trained on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adaptformer.data.contract import ImageContract
from adaptformer.errors import UserError
from adaptformer.model import backbone, classifier, tensor_file
from adaptformer.model.backbone_card import BackboneCard
from adaptformer.params import AdapterParams

FORMAT = 1


@dataclass(frozen=True)
class AdapterCard:
    """An adapter file's metadata: all that is needed, with the backbone, to build the model again."""

    adapter: dict[str, Any]  # the params section `adapter`
    classes: tuple[str, ...]
    image: ImageContract
    backbone: BackboneCard
    precision: str
    epoch: int
    trained: int
    format: int = FORMAT

    @property
    def trained_share(self) -> float:
        """Trainable parameters, head included, over the backbone's parameters."""
        return self.trained / self.backbone.parameters

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> AdapterCard:
        """Return the card of its JSON form (`dataclasses.asdict`)."""
        return cls(
            **{
                **content,
                "classes": tuple(content["classes"]),
                "image": ImageContract.from_dict(content["image"]),
                "backbone": BackboneCard.from_dict(content["backbone"]),
            }
        )


def read_card(path: Path) -> AdapterCard:
    """Return an adapter file's metadata. Raises UserError for a file of another kind or of a newer format."""
    return _card(path, tensor_file.read(path)[1])


def write(path: Path, model: classifier.Classifier, card: AdapterCard) -> None:
    """Write the trained parts of `model` with their card."""
    tensor_file.write(path, classifier.tuned_state(model), asdict(card))


def load(path: Path, backbone_path: Path) -> tuple[classifier.Classifier, AdapterCard]:
    """Return the model of an adapter file on its backbone, in evaluation mode, fp32, on the CPU.

    Raises UserError where the backbone's tensors have another hash than those that the adapters were trained on, and
    where the file is damaged.
    """
    tensors, metadata = tensor_file.read(path)
    card = _card(path, metadata)
    encoder, _ = tensor_file.read(backbone_path)
    present = tensor_file.content_hash(encoder)
    if present != card.backbone.sha256:
        raise UserError(
            f"{path} was trained on backbone {card.backbone.sha256[:12]}, {backbone_path} is {present[:12]}",
            f"fetch {card.backbone.origin} for {card.backbone.model}, or train again on this backbone",
        )
    model = _build(card, encoder)
    classifier.restore(model, tensors, str(path))
    return model.eval(), card


def outline(card: AdapterCard) -> classifier.Classifier:
    """Return the model of a card without any numbers: names and shapes, on torch's meta device, in no time."""
    with torch.device("meta"):
        encoder = backbone.build(card.backbone.model, card.image.size).state_dict()
        return _build(card, encoder)


def _build(card: AdapterCard, encoder: dict[str, Tensor]) -> classifier.Classifier:
    return classifier.build(
        card.backbone.model,
        encoder,
        AdapterParams.model_validate(card.adapter),
        image_size=card.image.size,
        classes=len(card.classes),
        seed=0,
    )


def _card(path: Path, metadata: dict[str, Any]) -> AdapterCard:
    if "adapter" not in metadata or metadata.get("format") != FORMAT:
        raise UserError(f"{path} is no adapter file of format {FORMAT}", "train again with this version of adaptformer")
    return AdapterCard.from_dict(metadata)
