from __future__ import annotations

import dataclasses
import logging
import math
from pathlib import Path
from typing import Any

import mite
import numpy as np
import pytest
import torch
from PIL import Image

from adaptformer.base.errors import UserError
from adaptformer.data.decoding import decode
from adaptformer.data.resizing import to_square
from adaptformer.model import backbone, tensor_file
from adaptformer.pretraining import pretrain as pretraining
from adaptformer.pretraining.mae import MaskedAutoencoder
from adaptformer.pretraining.pretrain import Recipe, load, pretrain, statistics
from adaptformer.training.optimiser import decay_groups

RECIPE = Recipe(mite.MODEL, epochs=3, batch_size=4, warmup_epochs=1, decoder_width=8)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for i, pixels in enumerate(mite.coloured(4, side=11).images):
        path = folder / str(i % 2) / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


def made(photos: Path, name: str, recipe: Recipe = RECIPE) -> Path:
    output = photos.parent / f"{name}.safetensors"
    pretrain(photos, output, recipe, origin="coloured squares", licence="CC0-1.0")
    return output


def killed_after(epochs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a run end as a kill would end it, once the state of so many epochs is saved."""
    write = tensor_file.write

    def written_then_killed(path: Path, tensors: Any, metadata: Any) -> None:
        write(path, tensors, metadata)
        if metadata.get("epoch") == epochs:
            raise KeyboardInterrupt

    monkeypatch.setattr(tensor_file, "write", written_then_killed)


def test_a_pretrained_file_can_be_fetched_with_its_provenance(photos: Path) -> None:
    output = made(photos, "mite")
    tensors, card = mite.fetched(mite.MODEL, str(output), None, ["CC0-1.0"])
    pixels = np.stack([np.asarray(Image.open(path)) for path in photos.rglob("*.png")]) / 255.0
    assert card.licence == "CC0-1.0"
    assert card.note == "MAE-pretrained by this project on 12 images (coloured squares), 3 epochs"
    assert card.mean == pytest.approx(pixels.mean(axis=(0, 1, 2)), abs=0.01)  # of the resized images: nearly the same
    assert all(0 < value < 1 for value in card.std)
    assert not torch.equal(tensors["blocks.0.attn.qkv.weight"], mite.encoder()["blocks.0.attn.qkv.weight"])
    assert sorted(path.name for path in photos.parent.iterdir()) == ["mite.safetensors", "photos"]


def test_the_recipe_decides_the_bytes(photos: Path) -> None:
    first = made(photos, "first").read_bytes()
    assert made(photos, "second").read_bytes() == first
    assert made(photos, "third", dataclasses.replace(RECIPE, seed=1)).read_bytes() != first


@pytest.mark.parametrize("epochs_before", [1, 2, 3])
def test_an_interrupted_run_ends_with_the_same_bytes(
    photos: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, epochs_before: int
) -> None:
    expected = made(photos, "straight").read_bytes()
    killed_after(epochs_before, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        made(photos, "killed")
    monkeypatch.undo()
    assert (photos.parent / "killed.state.safetensors").exists()
    caplog.clear()
    caplog.set_level(logging.INFO, "adaptformer")
    assert made(photos, "killed").read_bytes() == expected
    epochs = [message.partition(" loss")[0] for message in caplog.messages if " loss " in message]
    assert epochs == [f"pretrain epoch {number}/3" for number in range(epochs_before + 1, 4)]
    assert not (photos.parent / "killed.state.safetensors").exists()


def test_the_state_of_another_recipe_is_left_aside(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = made(photos, "straight").read_bytes()
    killed_after(1, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        made(photos, "other", dataclasses.replace(RECIPE, seed=5))
    monkeypatch.undo()
    assert made(photos, "other").read_bytes() == expected


def test_pretraining_lowers_the_loss(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "adaptformer")
    made(photos, "mite", dataclasses.replace(RECIPE, epochs=20, base_lr=1.0))
    losses = [float(message.split()[4]) for message in caplog.messages]
    assert len(losses) == 20
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:3])


def test_images_of_any_depth_are_loaded_in_order_and_damaged_ones_left_out(
    photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (photos / "0" / "damaged.jpg").write_bytes(b"junk")
    (photos / "notes.txt").write_text("no image")
    (photos / "folder.png").mkdir()
    images = load(photos, 8)
    paths = sorted(photos.rglob("[0-9][0-9].png"))
    contract = dataclasses.replace(mite.CONTRACT, interpolation="bicubic")
    expected = [to_square(decode(path.read_bytes()), contract) for path in paths]
    np.testing.assert_array_equal(images, np.stack(expected))
    assert len(caplog.messages) == 1
    assert "damaged.jpg left out: not an image" in caplog.messages[0]


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no images"):
        load(tmp_path, 8)
    with pytest.raises(UserError, match="nothing holds no images"):
        load(tmp_path / "nothing", 8)


def test_statistics_are_numpys() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    pixels[..., 1] //= 3
    mean, std = statistics(torch.from_numpy(pixels))
    np.testing.assert_allclose(mean, (pixels / 255).mean(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(std, (pixels / 255).std(axis=(0, 1, 2)), rtol=1e-6)


def test_matrices_decay_and_tokens_and_vectors_do_not() -> None:
    model = MaskedAutoencoder(backbone.build(mite.MODEL), 8, 1, 2)
    by_id = {id(parameter): name for name, parameter in model.named_parameters()}
    decaying, steady = ([by_id[id(p)] for p in group["params"]] for group in decay_groups(model, 0.05))
    assert {"vit.cls_token", "mask_token", "embed.bias", "norm.weight"} <= set(steady)
    assert {"vit.patch_embed.proj.weight", "embed.weight", "decoder.0.mlp.fc1.weight", "paint.weight"} <= set(decaying)
    assert "vit.pos_embed" not in decaying + steady, "it is fixed"


def test_the_learning_rate_warms_up_then_falls_along_half_a_cosine() -> None:
    recipe = Recipe(mite.MODEL, epochs=12, batch_size=64, base_lr=0.004, warmup_epochs=2)
    peak = 0.004 * 64 / 256
    for progress in (0.0, 0.5, 1.9):
        assert pretraining.learning_rate(recipe, progress) == pytest.approx(peak * progress / 2)
    for progress in (2.0, 4.5, 12.0):
        expected = peak * (1 + math.cos(math.pi * (progress - 2) / 10)) / 2
        assert pretraining.learning_rate(recipe, progress) == pytest.approx(expected)


def test_the_hash_in_the_file_is_that_of_its_tensors(photos: Path) -> None:
    tensors, metadata = tensor_file.read(made(photos, "mite"))
    assert metadata["sha256"] == tensor_file.content_hash(tensors)
    assert metadata["recipe"]["epochs"] == 3
