"""Fixed views, and the activations of frozen blocks that are held for them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import mite
import numpy as np
import pytest
import torch
from small_runs import RESTLESS, run, training_params

from adaptformer.data import augmentation
from adaptformer.model import backbone, classifier
from adaptformer.model.device import Precision
from adaptformer.training import activation_cache, fixed_crops, loop, resume
from adaptformer.training.history import EpochRow
from adaptformer.training.run import Run, TrainingData

LAYERWISE = {"schedule": "layerwise", "epochs": 2, "base_lr": 2.0}
CASES: dict[str, dict[str, Any]] = {
    "linear": {"model": {"method": "linear"}},
    "linear, class token": {
        "model": {"method": "linear", "pooling": "token"},
        "fixed_crops": 2,
        "gradient_accumulation": 2,
    },
    "linear, mirrored": {"model": {"method": "linear", "drop_path": 0.3}, "flip": True, "class_balance": "sampler"},
    "layerwise": {**LAYERWISE, "model": RESTLESS, "flip": True},
    "layerwise, class token": {**LAYERWISE, "model": {**RESTLESS, "pooling": "token"}, "rounds": 2},
    "layerwise, down": {**LAYERWISE, "block_order": "down", "rounds": 2},
    "layerwise, random": {**LAYERWISE, "block_order": "random", "rounds": 3, "epochs": 1},
    "layerwise, prompts": {**LAYERWISE, "model": {"method": "vpt"}, "rounds": 2},
    "layerwise, full": {**LAYERWISE, "model": {"method": "full"}, "rounds": 2, "base_lr": 0.2},
    "layerwise, taken back": {**LAYERWISE, "rounds": 2, "rollback_above": 1e-9, "base_lr": 8.0},
    "joint": {},
}


def made(folder: Path, case: dict[str, Any], **changes: Any) -> Run:
    return run(folder, **{"fixed_crops": 1, "flip": False, **case, **changes})


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_losses_and_weights_are_those_of_a_run_that_holds_nothing(tmp_path: Path, case: dict[str, Any]) -> None:
    held, plain = (made(tmp_path / name, case, gigabytes=size) for name, size in (("held", 1), ("plain", 0)))
    (rows, best), (expected, same) = loop.train(held), loop.train(plain)
    assert held.activation_cache.activations or case.get("block_order") == "down" or not case
    assert not plain.activation_cache.activations
    assert best == same
    for row, other in zip(rows, expected, strict=True):
        assert dataclasses.astuple(row) == pytest.approx(dataclasses.astuple(other), abs=1e-5)
    weights = classifier.trainable_state_dict(plain.model)
    for name, tensor in classifier.trainable_state_dict(held.model).items():
        torch.testing.assert_close(tensor, weights[name], rtol=1e-3, atol=1e-4)


def through_block(run: Run, number: int) -> list[int]:
    """How many images go through a block, by call."""
    seen: list[int] = []
    run.model.vit.blocks[number].norm1.register_forward_hook(lambda _, given, result: seen.append(len(result)))
    return seen


def test_a_probe_sees_each_view_once(tmp_path: Path) -> None:
    probe = made(tmp_path, {"model": {"method": "linear"}}, flip=True, epochs=5)
    seen = through_block(probe, 0)
    loop.train(probe)
    train, validation = len(probe.data.train.labels), len(probe.data.validation.labels)
    # Every image and its mirror image, the images of the head's statistics, the validation split.
    assert sum(seen) == 2 * train + train + validation


def test_a_sweep_moves_the_activations_up_by_one_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moves: list[tuple[int, int]] = []
    forward_blocks = classifier.Classifier.forward_blocks

    def noting(model: classifier.Classifier, tokens: torch.Tensor, first: int, last: int) -> torch.Tensor:
        if not model.training and not torch.is_grad_enabled() and last < mite.DEPTH:
            moves.append((first, last))
        return forward_blocks(model, tokens, first, last)

    sweep = made(tmp_path, LAYERWISE)
    monkeypatch.setattr(classifier.Classifier, "forward_blocks", noting)
    depths: list[int] = []
    loop.train(sweep, lambda _row: depths.append(sweep.activation_cache.depth))
    assert depths == [0, 0, 1, 1]
    assert (0, 1) in moves


@pytest.mark.parametrize("name", ["linear", "layerwise", "layerwise, down"])
def test_a_killed_run_ends_with_the_same_bytes(tmp_path: Path, name: str) -> None:
    whole = made(tmp_path / "whole", CASES[name])
    rows, best = loop.train(whole)

    def killing(_row: EpochRow) -> None:
        if len(state_of(killed)) > done:
            raise KeyboardInterrupt

    def state_of(run: Run) -> list[EpochRow]:
        state = resume.load(run.checkpoint.path, run.checkpoint.fingerprint)
        return state.rows if state else []

    done = 0
    while done < len(rows) - 1:
        killed = made(tmp_path / "killed", CASES[name])
        with pytest.raises(KeyboardInterrupt):
            loop.train(killed, killing)
        done += 1
    killed = made(tmp_path / "killed", CASES[name])
    assert loop.train(killed) == (rows, best)
    assert mite.tuned_hash(killed.model) == mite.tuned_hash(whole.model)


def test_without_memory_for_them_it_is_said_and_nothing_is_held(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    probe = made(tmp_path, {"model": {"method": "linear"}}, gigabytes=1e-9)
    loop.train(probe)
    assert not probe.activation_cache.activations
    (said,) = [message for message in caplog.messages if "feature_cache_gb" in message]
    assert said.endswith("the frozen blocks run in every epoch")


@pytest.mark.parametrize("flip", [False, True])
def test_each_image_has_the_same_few_views_in_every_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flip: bool
) -> None:
    drawn: dict[int, set[tuple[int, ...]]] = {}
    cropped = TrainingData.crops

    def noting(data: TrainingData, chosen: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        for image, box in zip(chosen.tolist(), boxes.tolist(), strict=True):
            drawn.setdefault(image, set()).add(tuple(box))
        return cropped(data, chosen, boxes)

    monkeypatch.setattr(TrainingData, "crops", noting)
    joint = made(tmp_path, {}, fixed_crops=2, flip=flip, epochs=12, crop_scale=(0.3, 0.8))
    loop.train(joint)
    expected = fixed_crops.fixed(joint.params, joint.data.photos.shapes).tolist()
    most = 4 if flip else 2
    assert fixed_crops.count(joint.params) == most
    assert set(drawn) == set(range(len(joint.data.train.labels)))
    for image, boxes in drawn.items():
        assert boxes <= {tuple(box) for box in expected[image]}
    assert max(map(len, drawn.values())) == most
    assert {box[4] for boxes in drawn.values() for box in boxes} == ({0, 1} if flip else {0})


@pytest.fixture(params=["mean", "token"])
def deep(request: pytest.FixtureRequest) -> classifier.Classifier:
    """A model of more blocks than the mite, in training mode."""
    settings = mite.settings(pooling=request.param, drop_path=0.5)
    encoder = dict(backbone.build("vit_nano_patch4_32", 8).state_dict())
    return classifier.build("vit_nano_patch4_32", encoder, settings, image_size=8, classes=3, seed=0).train()


def test_what_is_held_moves_up_block_by_block(
    deep: classifier.Classifier, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "adaptformer")
    monkeypatch.setattr(activation_cache, "BATCH", 2)
    images, taken = torch.randn(5, 3, 8, 8), []
    source = activation_cache.Source(5, lambda chosen: taken.append(chosen.tolist()) or images[chosen])
    depths = len(deep.vit.blocks)
    passes = [0] * depths
    for number, block in enumerate(deep.vit.blocks):
        block.register_forward_hook(lambda *_, number=number: passes.__setitem__(number, passes[number] + 1))
    held, chosen = activation_cache.ActivationCache(deep, {"train": source}, "fp32", 1.0), torch.tensor([3, 0])
    for depth in range(1, depths + 1):
        held.advance_to(depth)
        assert (held.depth, deep.training) == (depth, True)
        assert taken == [[0, 1], [2, 3], [4]]
        assert passes == [3] * depth + [0] * (depths - depth)
        before = list(passes)
        deep.eval()
        with torch.no_grad():
            expected = deep.forward_blocks(deep.patch_tokens(images), 0, depth)
            pooled = deep.pooled(images[chosen])
            torch.testing.assert_close(held.pooled("train", chosen), pooled)
            batches = [batch[0] for batch in held.batches("train", slice(None), 2)]
            torch.testing.assert_close(torch.cat(batches), deep.pooled(images)[0])
        if depth < depths:
            torch.testing.assert_close(held.activations["train"], expected)
        deep.train()
        passes[:] = before
    tokens = 4 + deep.prefix_tokens
    assert caplog.messages[0] == "computing the activations of 1 frozen blocks once (0.00 GB)"
    assert len(caplog.messages) == depths
    held.advance_to(depths)
    assert len(taken) == 3
    held.advance_to(2)  # downwards all is computed anew
    assert (held.depth, len(taken), passes) == (2, 6, [6] * 2 + [3] * (depths - 2))
    assert held.activations["train"].shape == (5, tokens, deep.vit.embed_dim)


@pytest.mark.parametrize(("precision", "bytes_each"), [("fp32", 4), ("bf16", 2)])
def test_the_frozen_prefix_is_held_only_if_it_fits_into_the_given_memory(
    deep: classifier.Classifier, caplog: pytest.LogCaptureFixture, precision: Precision, bytes_each: int
) -> None:
    caplog.set_level("INFO", "adaptformer")
    sources = {
        name: activation_cache.Source(2, lambda chosen: torch.zeros(len(chosen), 3, 8, 8)) for name in ("a", "b")
    }
    gigabytes = 2 * 2 * (4 + deep.prefix_tokens) * deep.vit.embed_dim * bytes_each / 1e9
    held = activation_cache.ActivationCache(deep, sources, precision, gigabytes)
    held.advance_to(2)
    assert held.depth == 2
    held.gigabytes *= 0.99
    held.advance_to(1)
    assert (held.depth, held.activations) == (0, {})
    assert caplog.messages[-1] == (
        "activations take 0.0 GB, more than runtime.feature_cache_gb: the frozen blocks run in every epoch"
    )


@pytest.mark.parametrize("flip", [False, True])
def test_fixed_views_are_the_crops_of_the_seed_and_their_mirror_images(flip: bool) -> None:
    params = training_params(fixed_crops=2, flip=flip, seed=3, crop_scale=(0.3, 0.8))
    shapes = np.array([[30, 40], [50, 20]])
    found = fixed_crops.fixed(params, shapes)
    plain = [augmentation.random_boxes(shapes, (0.3, 0.8), params.crop_ratio, False, 3, 0, view) for view in (0, 1)]
    assert torch.equal(found[:, :2], torch.stack(plain, dim=1))
    assert found.shape == (2, 4 if flip else 2, 5)
    if flip:
        assert torch.equal(found[:, 2:, :4], found[:, :2, :4])
        assert found[:, :2, 4].tolist() == [[0, 0], [0, 0]]
        assert found[:, 2:, 4].tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize(("method", "expected"), [("linear", mite.DEPTH), ("adaptformer", 0), ("full", 0), ("vpt", 0)])
def test_the_first_part_that_trains(method: str, expected: int) -> None:
    assert activation_cache.first_trained(mite.model(method=method)) == expected


def test_only_blocks_below_what_trains_count() -> None:
    model = mite.model(method="full")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("blocks.1." in name or "head" in name)
    assert activation_cache.first_trained(model) == 1


def test_in_bf16_they_are_held_in_bf16(tmp_path: Path) -> None:
    probe = made(tmp_path, {"model": {"method": "linear"}}, precision="bf16")
    rows, _ = loop.train(probe)
    assert {tensor.dtype for tensor in probe.activation_cache.activations.values()} == {torch.bfloat16}
    plain = made(tmp_path / "plain", {"model": {"method": "linear"}}, precision="bf16", gigabytes=0)
    assert rows[-1].val_loss == pytest.approx(loop.train(plain)[0][-1].val_loss, abs=0.02)


@pytest.mark.parametrize("flip", [True, False])
def test_each_draw_of_a_step_has_a_view_of_its_own(flip: bool) -> None:
    params = training_params(fixed_crops=3, flip=flip, crop_scale=(0.3, 0.8))
    shapes = np.full((4, 2), 20, np.int64)
    order = np.tile(np.arange(4), 100)
    crops, numbers = fixed_crops.boxes(params, shapes, order, 1, 2)
    assert numbers is not None
    most = fixed_crops.count(params)
    assert numbers.div(most, rounding_mode="floor").tolist() == order.tolist()
    for image in range(4):  # all views, none far more often than another
        drawn = np.bincount(numbers[order == image].numpy() - image * most, minlength=most)
        assert drawn.min() > 0.4 * 100 / most
    assert torch.equal(crops, fixed_crops.fixed(params, shapes).flatten(0, 1)[numbers])
