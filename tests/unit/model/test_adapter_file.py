from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import mite
import pytest
import torch

from adaptformer.base import array_file
from adaptformer.base.errors import UserError
from adaptformer.model import adapter_file, backbone_file, tensor_file
from adaptformer.model.adapter_file import AdapterCard


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    mite.write_backbone(tmp_path / "backbone.safetensors")
    adapter_file.write(tmp_path / "adapter.safetensors", mite.stirred(mite.model()), mite.adapter_card())
    return tmp_path


def as_json(card: AdapterCard) -> object:
    return json.loads(json.dumps(dataclasses.asdict(card)))


def load(folder: Path) -> tuple[torch.nn.Module, AdapterCard]:
    return adapter_file.load(folder / "adapter.safetensors", folder / "backbone.safetensors")


def test_the_model_comes_back_as_it_was(folder: Path) -> None:
    model, card = load(folder)
    images = torch.randn(4, 3, mite.SIDE, mite.SIDE)
    assert torch.equal(model(images), mite.stirred(mite.model())(images))
    assert not model.training
    assert card.classes == mite.CLASSES
    assert card.image == mite.CONTRACT
    assert card.backbone == mite.backbone_card()
    assert (card.precision, card.epoch) == ("fp32", 2)


@pytest.mark.parametrize(
    "settings",
    [
        {"bottlenecks": (2, 3)},
        {"scale": "learned"},
        {"layernorm": "in"},
        {"placement": "sequential"},
        {"pooling": "token"},
    ],
    ids=str,
)
def test_every_setting_is_kept(tmp_path: Path, settings: dict[str, object]) -> None:
    mite.write_backbone(tmp_path / "backbone.safetensors")
    trained = mite.stirred(mite.model(**settings))
    adapter_file.write(tmp_path / "adapter.safetensors", trained, mite.adapter_card(**settings))
    model, card = load(tmp_path)
    images = torch.randn(4, 3, mite.SIDE, mite.SIDE)
    assert torch.equal(model(images), trained(images))
    assert card.trained == mite.adapter_card(**settings).trained


def test_another_image_size_than_the_backbones_own_is_kept(tmp_path: Path) -> None:
    mite.write_backbone(tmp_path / "backbone.safetensors")
    larger = dataclasses.replace(mite.adapter_card(), image=dataclasses.replace(mite.CONTRACT, size=16))
    trained = mite.stirred(mite.model(image_size=16))
    adapter_file.write(tmp_path / "adapter.safetensors", trained, larger)
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(load(tmp_path)[0](images), trained(images))


def test_only_the_trained_parts_are_in_it(folder: Path) -> None:
    tensors, _ = tensor_file.read(folder / "adapter.safetensors")
    assert all(name.startswith("head.") or ".adapters." in name for name in tensors)
    assert (folder / "adapter.safetensors").stat().st_size < (folder / "backbone.safetensors").stat().st_size


def test_equal_models_give_equal_bytes(folder: Path) -> None:
    adapter_file.write(folder / "again.safetensors", mite.stirred(mite.model()), mite.adapter_card())
    assert (folder / "again.safetensors").read_bytes() == (folder / "adapter.safetensors").read_bytes()


def test_the_codes_of_an_edited_training_are_kept_and_a_single_one_leaves_no_key(folder: Path) -> None:
    model, card = adapter_file.load(folder / "adapter.safetensors", folder / "backbone.safetensors")
    assert "codes" not in array_file.read_metadata(folder / "adapter.safetensors", "")
    adapter_file.write(folder / "edited.safetensors", model, dataclasses.replace(card, codes=("a" * 64, "b" * 64)))
    assert adapter_file.read_card(folder / "edited.safetensors").codes == ("a" * 64, "b" * 64)


def test_a_card_survives_json_and_tells_the_trained_share() -> None:
    card = mite.adapter_card()
    again = AdapterCard.from_dict(json.loads(json.dumps(dataclasses.asdict(card))))
    assert as_json(again) == as_json(card)
    assert (again.classes, again.image, again.backbone) == (card.classes, card.image, card.backbone)
    assert card.trained_share == card.trained / mite.backbone_card().parameters


def test_another_backbone_is_refused_by_its_hash(folder: Path) -> None:
    present = tensor_file.content_hash(mite.encoder(seed=9))
    card = mite.backbone_card(sha256=present)
    backbone_file.write(folder / "backbone.safetensors", mite.encoder(seed=9), card)
    with pytest.raises(UserError) as caught:
        load(folder)
    assert f"was trained on backbone {mite.backbone_card().sha256[:12]}" in caught.value.cause
    assert present[:12] in caught.value.cause
    assert "mite.safetensors" in caught.value.remedy


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"", lambda b: b"junk" * 9])
def test_a_damaged_file_is_refused(folder: Path, damage: Callable[[bytes], bytes]) -> None:
    path = folder / "adapter.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    for read in (lambda: load(folder), lambda: adapter_file.read_card(path)):
        with pytest.raises(UserError, match=r"adapter\.safetensors is damaged"):
            read()


def test_tensors_that_do_not_fit_their_card_are_refused(folder: Path) -> None:
    path = folder / "adapter.safetensors"
    tensors, metadata = tensor_file.read(path)
    del tensors["head.linear.bias"]
    tensor_file.write(path, tensors, metadata)
    with pytest.raises(UserError, match="does not fit the model that it describes"):
        load(folder)


def test_other_kinds_and_newer_formats_are_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="is no adapter file of format 1"):
        adapter_file.read_card(folder / "backbone.safetensors")
    newer = dataclasses.replace(mite.adapter_card(), format=adapter_file.FORMAT + 1)
    adapter_file.write(folder / "newer.safetensors", mite.model(), newer)
    with pytest.raises(UserError, match="is no adapter file of format 1"):
        adapter_file.read_card(folder / "newer.safetensors")


def test_the_card_alone_can_be_read(folder: Path) -> None:
    assert as_json(adapter_file.read_card(folder / "adapter.safetensors")) == as_json(mite.adapter_card())
