"""The card of an adapter file is parsed by its schema: whatever else it holds is one error."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import mite
import pytest
import torch

from adaptformer.base.errors import UserError
from adaptformer.model import adapter_file, classifier, tensor_file


class Gone:
    """Stands for a key that is not there."""

    def __repr__(self) -> str:
        return "gone"


GONE = Gone()


def changed(card: dict[str, Any], place: str, value: object) -> dict[str, Any]:
    """Return a card in which the value at a dotted place is another one, or gone."""
    *above, name = place.split(".")
    table = card
    for part in above:
        table = table[part]
    table[name] = value
    if value is GONE:
        del table[name]
    return card


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        ("classes", [], "classes: "), ("classes", ["a", "a"], "the class name 'a' is there twice"),
        ("classes", ["a", "../../x"], "has a slash"), ("classes", ["a", ".b"], "begins with a dot"),
        ("classes", ["a", "b\x1b[31m"], "cannot be shown"), ("classes", ["a", 3], "classes.1: "),
        ("classes", "abc", "classes: "), ("classes", None, "classes: "), ("classes", GONE, "classes: "),
        ("image.size", 0, "image.size"), ("image.size", "8", "image.size"), ("image.size", True, "image.size"),
        ("image.size", 20_000, "image.size"), ("image.size", 10**30, "image.size"),
        ("image.crop_fraction", 1e-9, "crop_fraction"), ("image.crop_fraction", float("nan"), "image.crop_fraction"),
        ("image.mean", [0.5, 0.5], "image.mean.2: "), ("image.std", [0.1, 0.1, 0], "image.std"),
        ("image.resize", "fold", "image.resize"), ("image.new", 1, "image.new: "), ("image", [], "image: "),
        ("backbone.parameters", 0, "backbone.parameters: "), ("backbone.sha256", "x", "backbone.sha256: "),
        ("backbone.model", "hf-hub:someone/model", "backbone.model: "), ("backbone", None, "backbone: "),
        ("adapter", [], "adapter: "), ("adapter.old_setting", 1, "adapter.old_setting: "),
        ("adapter.method", GONE, "adapter.method: "), ("adapter.bottlenecks", [10**12], "adapter.bottlenecks.0: "),
        ("adapter.bottlenecks", [1] * 99, "adapter.bottlenecks: "), ("adapter.prompts", 10**12, "adapter.prompts: "),
        ("epoch", -1, "epoch: "), ("trained", 1.5, "trained: "), ("precision", "fp8", "precision: "),
        ("more", 1, "more: "), ("format", True, "format"), ("format", 7, "no adapter file of format 1"),
    ],
    ids=str,
)  # fmt: skip
def test_a_card_that_does_not_fit_is_told_in_two_lines(tmp_path: Path, place: str, value: object, told: str) -> None:
    card = changed(dataclasses.asdict(mite.adapter_card()), place, value)
    path = tmp_path / "adapter.safetensors"
    tensor_file.write(path, classifier.trainable_state_dict(mite.model()), card)
    with pytest.raises(UserError, match=r"adapter\.safetensors is no adapter file") as caught:
        adapter_file.read_card(path)
    assert told in caught.value.cause
    assert str(caught.value).count("\n") == 1
    assert "adaptformer train" in caught.value.remedy


@pytest.mark.parametrize("change", ["type", "shape", "more classes"])
def test_what_a_card_says_is_compared_with_the_tensors_before_it_is_built(tmp_path: Path, change: str) -> None:
    tensors, card = classifier.trainable_state_dict(mite.model()), mite.adapter_card()
    if change == "type":
        tensors["head.linear.bias"] = tensors["head.linear.bias"].to(torch.complex64)
    elif change == "shape":
        card = dataclasses.replace(card, adapter={**card.adapter, "bottlenecks": [65536]})
    else:
        card = dataclasses.replace(card, classes=tuple(f"class {number}" for number in range(100_000)))
    mite.write_backbone(tmp_path / "backbone.safetensors")
    tensor_file.write(tmp_path / "adapter.safetensors", tensors, dataclasses.asdict(card))
    with pytest.raises(UserError, match="does not fit the model that it describes"):
        adapter_file.load(tmp_path / "adapter.safetensors", tmp_path / "backbone.safetensors")


def test_a_backbone_of_another_architecture_is_refused(tmp_path: Path) -> None:
    from adaptformer.model import backbone_file

    card = dataclasses.replace(mite.backbone_card(), model="vit_nano_patch4_32")
    backbone_file.write(tmp_path / "backbone.safetensors", mite.encoder(), card)
    adapter = dataclasses.replace(mite.adapter_card(), backbone=card)
    adapter_file.write(tmp_path / "adapter.safetensors", mite.model(), adapter)
    with pytest.raises(UserError, match=r"does not fit|are not those of its model"):
        adapter_file.load(tmp_path / "adapter.safetensors", tmp_path / "backbone.safetensors")
