from __future__ import annotations

from typing import Any

import mite
import pytest
import torch
from torch import Tensor

from adaptformer.checkpoints.translation import translate
from adaptformer.errors import UserError
from adaptformer.model import tensor_file

Table = dict[str, Tensor]


@pytest.fixture
def expected() -> Table:
    return mite.encoder(seed=1)


def test_timms_own_names_pass_in_the_order_of_the_model(expected: Table) -> None:
    given = mite.encoder()
    translated = translate(dict(reversed(given.items())), expected)
    assert list(translated) == list(expected)
    assert all(torch.equal(translated[name], given[name]) for name in given)


@pytest.mark.parametrize("prefix", ["module.", "encoder.", "module.encoder."])
def test_prefixes_of_wrappers_are_taken_off(expected: Table, prefix: str) -> None:
    given = mite.encoder()
    translated = translate({prefix + name: tensor for name, tensor in given.items()}, expected)
    assert torch.equal(translated["blocks.1.mlp.fc2.bias"], given["blocks.1.mlp.fc2.bias"])


def test_decoder_mask_token_and_heads_are_dropped(expected: Table) -> None:
    extra = ("decoder_embed.weight", "decoder_blocks.0.norm1.bias", "mask_token", "head.weight", "fc_norm.bias")
    translated = translate({**mite.encoder(), **{name: torch.ones(1) for name in extra}}, expected)
    assert translated.keys() == expected.keys()


def test_the_result_is_fp32_and_contiguous(expected: Table) -> None:
    halves = {name: tensor.half() for name, tensor in mite.encoder().items()}
    halves["pos_embed"] = halves["pos_embed"].mT.contiguous().mT
    translated = translate(halves, expected)
    assert {tensor.dtype for tensor in translated.values()} == {torch.float32}
    assert translated["pos_embed"].is_contiguous()


def test_missing_tensors_are_listed_and_counted(expected: Table) -> None:
    given = {name: tensor for name, tensor in mite.encoder().items() if not name.startswith("blocks.1.")}
    with pytest.raises(UserError) as caught:
        translate(given, expected)
    assert caught.value.cause == (
        "the checkpoint lacks blocks.1.attn.proj.bias, blocks.1.attn.proj.weight, blocks.1.attn.qkv.bias and 9 more"
    )
    assert "backbone.model" in caught.value.remedy


def test_unknown_tensors_are_listed(expected: Table) -> None:
    with pytest.raises(UserError, match=r"has unknown blocks\.2\.norm1\.bias\n"):
        translate({**mite.encoder(), "blocks.2.norm1.bias": torch.ones(12)}, expected)


def test_other_shapes_are_listed_with_both(expected: Table) -> None:
    given = {**mite.encoder(), "norm.bias": torch.ones(13)}
    with pytest.raises(UserError, match=r"another shape for norm\.bias \(13,\) instead of \(12,\)\n"):
        translate(given, expected)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(expected: Table, number: float) -> None:
    given = mite.encoder()
    given["norm.bias"][3] = number
    with pytest.raises(UserError, match=r"not finite in norm\.bias\n"):
        translate(given, expected)


def test_a_tensor_that_is_filled_twice_is_refused(expected: Table) -> None:
    given = mite.encoder()
    with pytest.raises(UserError, match=r"fills norm\.bias twice"):
        translate({**given, "module.norm.bias": given["norm.bias"]}, expected)


def split(given: Table) -> Table:
    """AdaptFormer's own copy of MAE: query, key and value apart, fc1 and fc2 outside mlp."""
    out: Table = {}
    for name, tensor in given.items():
        if ".qkv." in name:
            out |= {name.replace("qkv", f"{part}_proj"): t for part, t in zip("qkv", tensor.chunk(3), strict=True)}
        else:
            out[name.replace(".mlp.", ".")] = tensor
    return out


HUGGING_FACE = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "norm": "layernorm",
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.q_proj": "attention.attention.query",
    "attn.k_proj": "attention.attention.key",
    "attn.v_proj": "attention.attention.value",
    "attn.proj": "attention.output.dense",
    "fc1": "intermediate.dense",
    "fc2": "output.dense",
}


def hugging_face(given: Table) -> Table:
    """facebook/vit-mae-*: the encoder below "vit.", the decoder below "decoder."."""
    out: Table = {
        "decoder.mask_token": torch.ones(1, 1, 4),
        "decoder.decoder_layers.0.layernorm_before.bias": torch.ones(4),
    }
    for name, tensor in split(given).items():
        if name in HUGGING_FACE:
            out["vit." + HUGGING_FACE[name]] = tensor
        elif name.startswith("blocks."):
            _, index, rest = name.split(".", 2)
            module, _, kind = rest.rpartition(".")
            out[f"vit.encoder.layer.{index}.{HUGGING_FACE[module]}.{kind}"] = tensor
        else:
            module, _, kind = name.rpartition(".")
            out[f"vit.{HUGGING_FACE[module]}.{kind}"] = tensor
    return out


def bare(given: Table) -> Table:
    """Hugging Face's encoder saved without the wrapper."""
    return {name.removeprefix("vit."): t for name, t in hugging_face(given).items() if name.startswith("vit.")}


def full_mae(given: Table) -> Table:
    extra = (
        "mask_token",
        "decoder_pos_embed",
        "decoder_embed.weight",
        "decoder_blocks.0.attn.qkv.weight",
        "decoder_norm.bias",
    )
    return {**given, **{name: torch.ones(3, 2) for name in extra}}


def deit(given: Table) -> Table:
    return {**given, "head.weight": torch.ones(2, 2), "head_dist.bias": torch.ones(2)}


@pytest.mark.parametrize("rename", [split, hugging_face, bare, full_mae, deit])
def test_the_same_weights_have_the_same_hash_under_every_layouts_names(expected: Table, rename: Any) -> None:
    given = mite.encoder()
    renamed = rename(given)
    assert renamed.keys() != given.keys()
    assert tensor_file.content_hash(translate(renamed, expected)) == tensor_file.content_hash(given)


def test_hugging_faces_names_are_those_of_its_published_files() -> None:
    names = hugging_face(mite.encoder())
    assert {
        "vit.embeddings.patch_embeddings.projection.weight",
        "vit.encoder.layer.1.attention.attention.key.bias",
        "vit.encoder.layer.0.attention.output.dense.weight",
        "vit.encoder.layer.0.output.dense.weight",
        "vit.layernorm.weight",
    } <= names.keys()


def test_a_third_that_is_missing_is_named(expected: Table) -> None:
    given = split(mite.encoder())
    del given["blocks.1.attn.k_proj.bias"]
    with pytest.raises(UserError, match=r"lacks blocks\.1\.attn\.k_proj\.bias\n"):
        translate(given, expected)


def test_thirds_of_unequal_shape_are_named(expected: Table) -> None:
    given = {**split(mite.encoder()), "blocks.0.attn.v_proj.weight": torch.ones(12)}
    with pytest.raises(UserError, match=r"unequal thirds of blocks\.0\.attn\.qkv\.weight\n"):
        translate(given, expected)


@pytest.mark.parametrize("twice", ["blocks.0.attn.q_proj.bias", "blocks.1.fc1.bias", "vit.layernorm.bias"])
def test_two_layouts_in_one_file_are_refused(expected: Table, twice: str) -> None:
    every = {**split(mite.encoder()), **hugging_face(mite.encoder())}
    given = {**mite.encoder(), twice: every[twice]}
    if "q_proj" in twice:
        given |= {twice.replace("q_", "k_"): every[twice], twice.replace("q_", "v_"): every[twice]}
    with pytest.raises(UserError, match="twice"):
        translate(given, expected)


def test_dinov2s_own_files_with_registers_become_timms() -> None:
    """There the class token has a position embedding of its own; timm adds it to the token once and for all."""
    numbers = torch.Generator().manual_seed(0)
    shapes = {"cls_token": (1, 1, 12), "reg_token": (1, 4, 12), "pos_embed": (1, 9, 12), "norm.weight": (12,)}
    timms = {name: torch.randn(shape, generator=numbers) for name, shape in shapes.items()}
    first = torch.randn(1, 1, 12, generator=numbers)
    token = torch.randn(1, 1, 12, generator=numbers)
    timms["cls_token"] = token + first
    own = {
        "cls_token": token, "register_tokens": timms["reg_token"], "mask_token": torch.zeros(1, 12),
        "pos_embed": torch.cat([first, timms["pos_embed"]], dim=1), "norm.weight": timms["norm.weight"],
    }  # fmt: skip
    assert tensor_file.content_hash(translate(own, timms)) == tensor_file.content_hash(timms)
    with pytest.raises(UserError, match="fills reg_token twice"):
        translate({**own, "reg_token": timms["reg_token"]}, timms)
    with pytest.raises(UserError, match="another shape for pos_embed"):
        translate({**own, "pos_embed": torch.ones(2, 2)}, timms)
