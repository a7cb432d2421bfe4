from __future__ import annotations

from typing import Any

import mite
import numpy as np
import pytest
import torch
from torch import nn

from adaptformer.base.errors import UserError
from adaptformer.model import backbone, classifier, inference, tensor_file
from adaptformer.model.classifier import Head


def pictures(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 3, mite.SIDE, mite.SIDE, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"placement": "sequential"},
        {"layernorm": "in"},
        {"layernorm": "out"},
        {"scale": "learned"},
        {"bottlenecks": (4, 1, 2)},
    ],
    ids=str,
)
def test_the_adapted_model_starts_equal_to_the_backbone_bit_for_bit(changes: dict[str, Any]) -> None:
    plain = backbone.build(mite.MODEL)
    backbone.load_encoder(plain, mite.encoder())
    adapted = mite.model(pooling="token", **changes)
    assert torch.equal(adapted.eval().vit.forward_features(pictures()), plain.eval().forward_features(pictures()))


def test_adapters_that_were_trained_change_the_features() -> None:
    start, trained = mite.model().eval(), mite.stirred(mite.model())
    assert not torch.allclose(start.pooled(pictures())[0], trained.pooled(pictures())[0], atol=1e-2)


def test_the_head_is_batch_norm_without_affine_then_a_linear_layer() -> None:
    head = Head(mite.WIDTH, 4, "token")
    torch.nn.init.normal_(head.linear.bias)
    assert [name for name, _ in head.named_parameters()] == ["linear.weight", "linear.bias"]
    features = torch.randn(6, mite.WIDTH) * 1e-3  # so small that eps counts
    mean, variance = features.mean(0), features.var(0, unbiased=False)
    expected = (features - mean) / (variance + 1e-6).sqrt() @ head.linear.weight.T + head.linear.bias
    torch.testing.assert_close(head.train()(features), expected)
    mean, variance = head.batch_norm.running_mean, head.batch_norm.running_var
    expected = (features - mean) / (variance + 1e-6).sqrt() @ head.linear.weight.T + head.linear.bias
    torch.testing.assert_close(head.eval()(features), expected)


def test_the_linear_layer_starts_with_small_truncated_normal_weights_and_no_bias() -> None:
    torch.manual_seed(0)
    head = Head(500, 200, "token")
    assert head.linear.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert not head.linear.bias.any()


def test_mean_pooling_takes_patches_without_the_final_norm_then_fc_norm() -> None:
    model = mite.stirred(mite.model(pooling="mean"))
    plain = backbone.build(mite.MODEL)
    backbone.load_encoder(plain, mite.encoder())
    tokens = model.vit.pos_drop(torch.cat([
        (plain.cls_token + plain.pos_embed[:, :1]).expand(3, -1, -1),
        plain.patch_embed(pictures()) + plain.pos_embed[:, 1:],
    ], dim=1))  # fmt: skip
    for block in model.vit.blocks:
        tokens = block(tokens)
    pooled = tokens[:, 1:].mean(1)
    torch.testing.assert_close(model.pooled(pictures())[0], pooled)
    norm = model.head.fc_norm
    centred = pooled - pooled.mean(1, keepdim=True)
    rescaled = centred / (centred.pow(2).mean(1, keepdim=True) + 1e-6).sqrt() * norm.weight + norm.bias
    logits = model.head.linear(model.head.batch_norm(rescaled))
    torch.testing.assert_close(model(pictures()), logits)


def test_token_pooling_takes_the_class_token_behind_the_final_norm() -> None:
    model = mite.stirred(mite.model(pooling="token"))
    assert isinstance(model.vit.norm, nn.LayerNorm)
    assert isinstance(model.head.fc_norm, nn.Identity)
    torch.testing.assert_close(model.pooled(pictures())[0], model.vit.forward_features(pictures())[:, 0])


@pytest.mark.parametrize(("bottleneck", "parameters"), [(64, 1_189_632), (8, 156_768), (1, 27_660)])
def test_vit_b_has_the_published_numbers_of_parameters(bottleneck: int, parameters: int) -> None:
    with torch.device("meta"):  # shapes without numbers: nothing is initialised, nothing downloaded
        encoder = backbone.build("vit_base_patch16_224").state_dict()
        settings = mite.settings(bottlenecks=[bottleneck], pooling="token")
        model = classifier.build("vit_base_patch16_224", encoder, settings, image_size=224, classes=100, seed=0)
    counts = {name: parameter.numel() for name, parameter in classifier.trainable(model).items()}
    assert (len(encoder), sum(tensor.numel() for tensor in encoder.values())) == (150, 85_798_656)
    assert sum(count for name, count in counts.items() if ".adapters." in name) == parameters
    assert sum(count for name, count in counts.items() if name.startswith("head.")) == 76_900
    assert sum(counts.values()) == parameters + 76_900


def test_only_adapters_and_head_are_trainable_from_the_start() -> None:
    model = mite.model(bottlenecks=(4, 2), scale="learned")
    free = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    slot = {"scale", "down.weight", "down.bias", "up.weight", "up.bias"}
    adapters = {f"vit.blocks.{block}.adapters.{i}.{part}" for block in (0, 1) for i in (0, 1) for part in slot}
    head = {"head.fc_norm.weight", "head.fc_norm.bias", "head.linear.weight", "head.linear.bias"}
    assert free == adapters | head
    assert set(classifier.trainable(model)) == free
    statistics = {f"head.batch_norm.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}
    assert set(classifier.trainable_state_dict(model)) == free | statistics


def test_trainable_names_stay_the_same_whatever_is_frozen_at_the_moment() -> None:
    model = mite.model()
    names = list(classifier.trainable(model))
    model.requires_grad_(False)
    assert list(classifier.trainable(model)) == names


def test_initialisation_depends_on_the_seed_alone() -> None:
    def start(seed: int) -> str:
        return tensor_file.content_hash(classifier.trainable_state_dict(mite.model(seed=seed)))

    torch.manual_seed(5)
    first = start(0)
    torch.manual_seed(6)
    assert start(0) == first
    assert start(1) != first


def test_models_are_built_under_one_thread_and_leave_the_number_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    build = backbone.build
    monkeypatch.setattr(backbone, "build", lambda *given: (seen.append(torch.get_num_threads()), build(*given))[1])
    torch.set_num_threads(3)
    encoder = mite.encoder()
    seen.clear()
    classifier.build(mite.MODEL, encoder, mite.settings(), image_size=mite.SIDE, classes=3, seed=0)
    assert seen == [1]
    assert torch.get_num_threads() == 3


def test_drop_path_reaches_the_blocks() -> None:
    model = mite.model(drop_path=0.3)
    assert model.vit.blocks[1].block.drop_path2.drop_prob == 0.3


def test_restore_fills_exactly_the_trained_parts() -> None:
    source, target = mite.stirred(mite.model()), mite.model()
    classifier.restore(target, classifier.trainable_state_dict(source), "the file")
    assert torch.equal(target.eval()(pictures()), source(pictures()))


@pytest.mark.parametrize("change", ["missing", "unknown", "reshaped"])
def test_restore_refuses_what_does_not_fit_and_changes_nothing(change: str) -> None:
    model = mite.model()
    tensors = {name: tensor.clone() + 1 for name, tensor in classifier.trainable_state_dict(model).items()}
    if change == "missing":
        del tensors["head.linear.bias"]
    elif change == "unknown":
        tensors["head.extra"] = torch.zeros(1)
    else:
        tensors["head.linear.bias"] = torch.zeros(4)
    before = tensor_file.content_hash(model.state_dict())
    with pytest.raises(UserError, match="the file does not fit the model"):
        classifier.restore(model, tensors, "the file")
    assert tensor_file.content_hash(model.state_dict()) == before


def test_logits_are_those_of_normalised_centres_whatever_the_batch_size() -> None:
    model = mite.stirred(mite.model()).train()
    images = mite.coloured(2, side=11).images
    pixels = torch.tensor(images[:, 1:9, 1:9].astype(np.float32)).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (mite.CONTRACT.mean, mite.CONTRACT.std))
    with torch.no_grad():
        expected = model.eval()((pixels - mean) / std)
    model.train()
    statistics = model.head.batch_norm.running_mean.clone()
    for batch_size in (1, 4, 100):
        given = inference.logits(model, images, mite.CONTRACT, batch_size=batch_size, device=torch.device("cpu"))
        torch.testing.assert_close(given, expected)
    assert model.training
    assert torch.equal(model.head.batch_norm.running_mean, statistics)
    model.eval()
    inference.logits(model, images, mite.CONTRACT, batch_size=4, device=torch.device("cpu"))
    assert not model.training


def test_logits_are_fp32_in_either_precision() -> None:
    model, images = mite.stirred(mite.model()), mite.coloured(2).images
    full, half = (
        inference.logits(model, images, mite.CONTRACT, batch_size=6, device=torch.device("cpu"), precision=precision)
        for precision in ("fp32", "bf16")
    )
    assert half.dtype == torch.float32
    assert not torch.equal(half, full)
    torch.testing.assert_close(half, full, rtol=0.1, atol=0.1)


def test_logits_of_many_classes_do_not_tie_in_bf16() -> None:
    model = mite.stirred(mite.model(classes=1000))
    given = inference.logits(
        model, mite.coloured(40).images, mite.CONTRACT, batch_size=64, device=torch.device("cpu"), precision="bf16"
    )
    best = given.topk(2).values
    assert (best[:, 0] > best[:, 1]).all()
