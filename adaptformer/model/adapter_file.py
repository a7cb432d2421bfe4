"""The adapter file: the result of training, a few megabytes that load only onto the backbone used in training."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import ConfigDict, Field
from torch import Tensor

from adaptformer.base import array_file, schema
from adaptformer.base.errors import UserError
from adaptformer.config import renamed
from adaptformer.config.params import AdapterParams
from adaptformer.data.preprocessing import ImageContract
from adaptformer.model import backbone, backbone_file, classifier, tensor_file
from adaptformer.model.backbone_card import BackboneCard

FORMAT = 2
"""Format of the card; those of format 1 have keys by earlier names (config/renamed.py)."""
_REMEDY = "train again with this version: `adaptformer train`"


@dataclass(frozen=True)
class AdapterCard:
    """Metadata of an adapter file: together with the backbone, enough to build the model again."""

    __pydantic_config__: ClassVar[ConfigDict] = schema.STRICT

    adapter: dict[str, Any]  # the params section `adapter`
    classes: schema.ClassNames
    image: ImageContract
    backbone: BackboneCard
    precision: Literal["fp32", "bf16"]
    epoch: schema.Count
    trained: schema.Count
    format: Annotated[int, Field(ge=FORMAT, le=FORMAT)] = FORMAT
    codes: tuple[schema.Sha256, ...] = ()
    """Hashes of all code that it was trained with, if the code changed while it was trained (`runtime.resume`)."""

    @property
    def trained_share(self) -> float:
        """Trainable parameters, head included, over the backbone's parameters."""
        return self.trained / self.backbone.parameters

    @property
    def settings(self) -> AdapterParams:
        """The params section `adapter`, typed."""
        return _settings(self)

    @classmethod
    def from_dict(cls, content: object) -> AdapterCard:
        """Parse a card from its JSON form (`dataclasses.asdict`) of any format.

        Raises ValueError (one line) for other content.
        """
        card = schema.parse(cls, _of_this_format(content))
        for name, parse in (("image", _contract), ("adapter", _settings)):
            try:
                parse(card)
            except ValueError as error:
                raise ValueError(f"{name}.{error}") from error
        return card


def _of_this_format(content: object) -> object:
    if not isinstance(content, dict) or content.get("format") != 1 or isinstance(content["format"], bool):
        return content
    sections = {
        section: renamed.with_present_names(section, content[section])
        for section in ("adapter", "image")
        if isinstance(content.get(section), dict)
    }
    return {**content, **sections, "format": FORMAT}


def _contract(card: AdapterCard) -> ImageContract:
    return ImageContract.from_dict(asdict(card.image))


def _settings(card: AdapterCard) -> AdapterParams:
    return schema.parse(AdapterParams, card.adapter)


def read(path: Path) -> tuple[dict[str, Tensor], AdapterCard]:
    """Return an adapter file's tensors and card.

    Raises UserError for a file that is altered, damaged, of another kind, or of a newer format.
    """
    tensors, metadata = tensor_file.read(path, _REMEDY)
    return tensors, _card(path, metadata)


def read_card(path: Path) -> AdapterCard:
    """Return an adapter file's card, verified, without its tensors; raises as `read` does."""
    return _card(path, array_file.read_metadata(path, _REMEDY))


def write(path: Path, model: classifier.Classifier, card: AdapterCard) -> None:
    """Write the trained parts of `model` with their card."""
    content = asdict(card)
    if not card.codes:  # as files had it before there was this key
        del content["codes"]
    tensor_file.write(path, classifier.trainable_state_dict(model), content)


def load(path: Path, backbone_path: Path) -> tuple[classifier.Classifier, AdapterCard]:
    """Return the model of an adapter file on its backbone, in evaluation mode, fp32, on the CPU.

    Raises UserError if the backbone is not the one that the adapters were trained on (by the hash of its tensors), or
    if one of the files is damaged.
    """
    tensors, card = read(path)
    encoder, present = backbone_file.read(backbone_path)
    if (present.model, present.sha256) != (card.backbone.model, card.backbone.sha256):
        raise UserError(
            f"{path} was trained on backbone {card.backbone.sha256[:12]}, {backbone_path} is {present.sha256[:12]}",
            f"fetch {card.backbone.origin} for {card.backbone.model}, or train again on this backbone",
        )
    classifier.require_fit(outline(card), tensors, str(path))  # before allocating memory for the sizes in the card
    model = _build(card, encoder)
    classifier.restore(model, tensors, str(path))
    return model.eval(), card


def outline(card: AdapterCard) -> classifier.Classifier:
    """Return the model of a card on torch's meta device: names and shapes without values, built at once."""
    with torch.device("meta"):
        encoder = backbone.build(card.backbone.model, card.image.size).state_dict()
        return _build(card, encoder)


def _build(card: AdapterCard, encoder: dict[str, Tensor]) -> classifier.Classifier:
    return classifier.build(
        card.backbone.model, encoder, card.settings, image_size=card.image.size, classes=len(card.classes), seed=0
    )


def _card(path: Path, metadata: dict[str, Any]) -> AdapterCard:
    if "adapter" not in metadata or metadata.get("format") not in range(1, FORMAT + 1):
        raise UserError(f"{path} is no adapter file of format 1 to {FORMAT}", _REMEDY)
    try:
        return AdapterCard.from_dict(metadata)
    except ValueError as error:
        raise UserError(f"{path} is no adapter file that this version can read: {error}", _REMEDY) from error
