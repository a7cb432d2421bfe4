from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import mite
import pytest
import safetensors.torch
import torch

from adaptformer.backbones import catalogue, fetching, foreign_file
from adaptformer.base import files
from adaptformer.base.errors import UserError
from adaptformer.model import backbone, tensor_file
from adaptformer.model.backbone_card import BackboneCard

NAMED = "test_vit.r160_in1k"  # small published weights whose normalisation timm knows


def official(path: Path, model: str, **changes: Any) -> Path:
    """A file as MAE's authors publish them: tensors under "model", decoder included, and an argparse.Namespace."""
    encoder = backbone.build(model).state_dict()
    decoder = {"mask_token": torch.zeros(1, 1, 4), "decoder_embed.weight": torch.zeros(4, 4)}
    args = argparse.Namespace(model="mae_vit_base_patch16", norm_pix_loss=True)
    torch.save({"model": {**encoder, **decoder}, "args": args, "epoch": 799, **changes}, path)
    return path


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return mite.write_backbone(tmp_path / "mite.safetensors")


def test_the_bundled_checkpoint_fills_its_model_and_tells_its_origin() -> None:
    tensors, card = mite.fetched("vit_nano_patch4_32", "bundled", None, mite.LICENCES)
    backbone.load_encoder(backbone.build("vit_nano_patch4_32"), tensors)
    file = Path(fetching.__file__).parents[1] / "backbones" / "vit_nano_patch4_32.safetensors"
    assert card.origin == "bundled/vit_nano_patch4_32.safetensors"
    assert card.source_sha256 == files.sha256_file(file)
    assert card.sha256 == tensor_file.content_hash(tensors)
    assert card.parameters == sum(tensor.numel() for tensor in tensors.values())
    assert "pretrained by this project" in card.note
    assert card.licence
    assert all(0 < value < 1 for value in (*card.mean, *card.std))


def test_every_bundled_checkpoint_can_be_fetched() -> None:
    folder = Path(fetching.__file__).parents[1] / "backbones"
    names = [path.stem for path in folder.glob("*.safetensors")]
    assert names
    for name in names:
        assert mite.fetched(name, "bundled", None, mite.LICENCES)[1].model == name


def test_a_model_without_a_bundled_checkpoint_names_those_that_have_one() -> None:
    with pytest.raises(UserError, match=f"no checkpoint is bundled for backbone.model = {mite.MODEL}") as caught:
        mite.fetched(mite.MODEL, "bundled", None, mite.LICENCES)
    assert "vit_nano_patch4_32" in caught.value.remedy


def test_the_official_layout_takes_its_normalisation_from_timm_and_its_licence_from_the_user(tmp_path: Path) -> None:
    path = official(tmp_path / "mae.pth", NAMED)
    tensors, card = mite.fetched(NAMED, str(path), files.sha256_file(path), mite.LICENCES, licence="MIT")
    config = backbone.published(NAMED)
    assert config is not None
    assert tensors.keys() == backbone.build(NAMED).state_dict().keys()
    assert (card.mean, card.std, card.licence) == (tuple(config.mean), tuple(config.std), "MIT")
    assert card.note == (
        f"licence claimed by the user in backbone.licence; normalisation as timm states it for {NAMED}"
    )
    assert card.origin == "mae.pth", "the card must not hold a path of this machine"


def test_the_same_weights_have_the_same_hash_in_any_file(tmp_path: Path) -> None:
    tensors = backbone.build(NAMED).state_dict()
    torch.save({"model": tensors}, tmp_path / "a.pth")
    tensor_file.write(tmp_path / "b.safetensors", {f"module.{name}": t for name, t in tensors.items()}, {})
    cards = [mite.fetched(NAMED, str(tmp_path / name), licence="mit")[1] for name in ("a.pth", "b.safetensors")]
    assert cards[0].sha256 == cards[1].sha256
    assert cards[0].source_sha256 != cards[1].source_sha256


def test_what_fetch_wrote_can_be_fetched_again(own: Path, tmp_path: Path) -> None:
    tensors, card = mite.fetched(mite.MODEL, str(own), None, mite.LICENCES)
    tensor_file.write(tmp_path / "again.safetensors", tensors, dataclasses.asdict(card))
    again = mite.fetched(mite.MODEL, str(tmp_path / "again.safetensors"), None, mite.LICENCES)[1]
    assert (again.sha256, again.mean, again.std, again.licence, again.note) == (
        card.sha256, mite.CONTRACT.mean, mite.CONTRACT.std, "MIT", "random",
    )  # fmt: skip


def test_a_card_survives_json() -> None:
    card = mite.backbone_card()
    assert BackboneCard.from_dict(json.loads(json.dumps(dataclasses.asdict(card)))) == card


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"backbone\.checkpoint = .*nothing\.pth is neither a file") as caught:
        mite.fetched(mite.MODEL, str(tmp_path / "nothing.pth"), None, mite.LICENCES)
    assert "bundled" in caught.value.remedy
    with pytest.raises(UserError, match="is a folder without a checkpoint"):
        mite.fetched(mite.MODEL, str(tmp_path), None, mite.LICENCES)


def test_another_hash_than_the_expected_one_is_refused(own: Path) -> None:
    with pytest.raises(UserError) as caught:
        mite.fetched(mite.MODEL, str(own), "0" * 64, mite.LICENCES)
    assert files.sha256_file(own) in caught.value.cause
    assert f"not backbone.sha256 = {'0' * 64}" in caught.value.cause
    assert mite.fetched(mite.MODEL, str(own), files.sha256_file(own), mite.LICENCES)


def test_a_hostile_file_of_another_hash_is_not_even_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = official(tmp_path / "mae.pth", NAMED)
    monkeypatch.setattr(foreign_file, "read_foreign", lambda path: pytest.fail("opened"))
    with pytest.raises(UserError, match="has sha256"):
        mite.fetched(NAMED, str(path), "0" * 64, mite.LICENCES)


def test_weights_other_than_their_metadata_names_are_refused(tmp_path: Path) -> None:
    tensor_file.write(tmp_path / "x.safetensors", mite.encoder(seed=3), dataclasses.asdict(mite.backbone_card()))
    with pytest.raises(UserError, match="do not match its own sha256"):
        mite.fetched(mite.MODEL, str(tmp_path / "x.safetensors"), None, mite.LICENCES)


def test_a_checkpoint_of_another_architecture_lists_what_differs(own: Path) -> None:
    with pytest.raises(UserError, match=r"lacks blocks\.2\."):
        mite.fetched("vit_nano_patch4_32", str(own), None, mite.LICENCES)


def test_wrong_shapes_are_refused(tmp_path: Path) -> None:
    tensors = {**mite.encoder(), "norm.weight": torch.ones(24)}
    torch.save({"model": tensors}, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"another shape for norm\.weight \(24,\) instead of \(12,\)"):
        mite.fetched(mite.MODEL, str(tmp_path / "x.pth"), None, mite.LICENCES)


def test_of_several_fitting_tables_the_parameter_chooses(tmp_path: Path) -> None:
    raw, averaged = mite.encoder(), mite.encoder(seed=1)
    metadata = {"adaptformer": json.dumps({"mean": [0.5] * 3, "std": [0.5] * 3, "licence": "MIT", "note": ""})}
    both = {f"{name}.{key}": t for name, table in (("net", raw), ("ema", averaged)) for key, t in table.items()}
    safetensors.torch.save_file(both, tmp_path / "x.bin", metadata)
    for weights, table in (("ema", averaged), ("raw", raw), ("net", raw)):
        card = mite.fetched(mite.MODEL, str(tmp_path / "x.bin"), None, mite.LICENCES, weights=weights)[1]
        assert card.sha256 == tensor_file.content_hash(table)


@pytest.mark.parametrize("model", [NAMED, mite.MODEL])
@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ([], "metadata are no table"),
        ("text", "metadata are no table"),
        ({"mean": [0.5, 0.5, 0.5]}, "std: "),
        ({"licence": "MIT"}, "mean: "),
        ({"mean": [0.5, 0.5], "std": [1.0] * 3, "licence": "MIT", "note": ""}, "mean"),
        ({"mean": [0.5] * 3, "std": [0.0, 1.0, 1.0], "licence": "MIT", "note": ""}, r"std\.0: "),
        ({"mean": [float("nan")] * 3, "std": [1.0] * 3, "licence": "MIT", "note": ""}, r"mean\.0: "),
        ({"mean": ["0.5"] * 3, "std": [1.0] * 3, "licence": "MIT", "note": ""}, r"mean\.0: "),
        ({"mean": [0.5] * 3, "std": [1.0] * 3, "licence": None, "note": ""}, "licence: "),
        ({"mean": [0.5] * 3, "std": [1.0] * 3, "licence": "MIT", "note": "", "sha256": 3}, "sha256: "),
        ({"adapter": {}, "format": 1}, "is an adapter file"),
    ],
)
def test_metadata_that_are_no_whole_card_are_refused(tmp_path: Path, model: str, metadata: Any, words: str) -> None:
    path = tmp_path / "x.safetensors"
    safetensors.torch.save_file(backbone.build(model).state_dict(), path, {"adaptformer": json.dumps(metadata)})
    with pytest.raises(UserError, match=words) as caught:
        mite.fetched(model, str(path), None, mite.LICENCES)
    assert str(caught.value).count("\n") == 1


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_truncated_file_is_refused(own: Path, tmp_path: Path, suffix: str) -> None:
    source = own if suffix == "safetensors" else official(tmp_path / "mae.pth", NAMED)
    path = tmp_path / f"half.{suffix}"
    path.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    with pytest.raises(UserError, match=rf"half\.{suffix} is damaged"):
        mite.fetched(mite.MODEL, str(path), None, mite.LICENCES)


@pytest.mark.parametrize("model", ["test_vit", mite.MODEL])
def test_weights_without_a_known_normalisation_are_refused(tmp_path: Path, model: str) -> None:
    path = official(tmp_path / "x.pth", model)
    with pytest.raises(UserError, match=f"nor backbone.model = {model} states the normalisation") as caught:
        mite.fetched(model, str(path), licence="mit")
    assert "backbone.mean" in caught.value.remedy
    card = mite.fetched(model, str(path), licence="mit", mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6])[1]
    assert (card.mean, card.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert card.note.endswith("normalisation given by the user in backbone.mean and backbone.std")


def test_the_name_of_an_architecture_says_nothing_about_a_files_licence(tmp_path: Path) -> None:
    path = official(tmp_path / "x.pth", NAMED)
    config = backbone.published(NAMED)
    assert config is not None
    assert config.license in mite.LICENCES
    with pytest.raises(UserError, match=r"the licence of x\.pth is unknown") as caught:
        mite.fetched(NAMED, str(path))
    assert "backbone.licence" in caught.value.remedy
    assert mite.fetched(NAMED, str(path), None, ["unknown"])[1].licence == "unknown"


def test_a_known_file_has_the_licence_of_the_catalogue_under_whatever_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = official(tmp_path / "mine.pth", NAMED)
    entry = catalogue.find("mae_vit_base")
    assert entry is not None
    monkeypatch.setattr(catalogue, "ENTRIES", (dataclasses.replace(entry, sha256=files.sha256_file(path)),))
    with pytest.raises(UserError, match=r"has the licence cc-by-nc-4\.0"):
        mite.fetched(NAMED, str(path))
    card = mite.fetched(NAMED, str(path), None, ["CC-BY-NC-4.0"])[1]
    assert (card.mean, card.std) == entry.normalisation
    assert card.note == "licence stated by the catalogue; normalisation stated by the catalogue"


def test_a_claim_that_contradicts_what_is_stated_is_told(own: Path, caplog: pytest.LogCaptureFixture) -> None:
    card = mite.fetched(mite.MODEL, str(own), licence="Apache-2.0")[1]
    claim = "licence claimed by the user in backbone.licence, but the file's own card states MIT"
    assert (card.licence, card.note) == ("Apache-2.0", f"random; {claim}")
    assert claim in caplog.text
    caplog.clear()
    assert mite.fetched(mite.MODEL, str(own), licence="mit")[1].note == (
        "random; licence claimed by the user in backbone.licence"
    )
    assert caplog.text == ""
