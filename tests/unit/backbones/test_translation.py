from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import mite
import numpy as np
import pytest
import torch
from torch import Tensor

from adaptformer.backbones.translation import translate
from adaptformer.base.errors import UserError
from adaptformer.model import backbone, tensor_file

Table = dict[str, Tensor]


@pytest.fixture
def expected() -> Table:
    return mite.encoder(seed=1)


def test_timms_own_names_pass_in_the_order_of_the_model(expected: Table) -> None:
    given = mite.encoder()
    translated = translate(dict(reversed(given.items())), expected)
    assert list(translated) == list(expected)
    assert all(torch.equal(translated[name], given[name]) for name in given)


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
    with pytest.raises(UserError, match=r"not finite \(in fp32\) in norm\.bias\n"):
        translate(given, expected)


def test_a_tensor_that_is_filled_twice_is_refused(expected: Table) -> None:
    given = mite.encoder()
    with pytest.raises(UserError, match=r"fills norm\.bias twice"):
        translate({**given, "layernorm.bias": given["norm.bias"]}, expected)


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


def classifier_of_hugging_face(given: Table) -> Table:
    return {**bare(given), "pooler.dense.weight": torch.ones(12, 12), "pooler.dense.bias": torch.ones(12)}


def fine_tuned_mae(given: Table) -> Table:
    """Its classifier has the norm behind the mean of the patches, under another name."""
    renamed = {f"fc_{name}" if name.startswith("norm.") else name: tensor for name, tensor in given.items()}
    return {**renamed, "head.weight": torch.ones(2, 12), "head.bias": torch.ones(2)}


def chunked(given: Table) -> Table:
    """DINOv2's blocks in two chunks, as they are trained in parts."""
    return {re.sub(r"^blocks\.(\d+)", r"blocks.\1.\1", name): tensor for name, tensor in given.items()}


def jax(given: Table) -> Table:
    """AugReg's .npz: inputs first, heads apart, and the optimiser's target as a prefix elsewhere."""
    out: Table = {"head/kernel": torch.ones(12, 2), "head/bias": torch.ones(2)}
    for name, tensor in split(given).items():
        module, _, kind = name.rpartition(".")
        module = re.sub(r"^blocks\.(\d+)\.", r"Transformer/encoderblock_\1/", module)
        if kind == "weight" and "norm" not in module:
            if module.endswith(("q_proj", "k_proj", "v_proj")):
                tensor = tensor.T.reshape(12, 3, 4)  # noqa: PLW2901
            elif module.endswith("attn.proj"):
                tensor = tensor.T.reshape(3, 4, 12)  # noqa: PLW2901
            else:
                tensor = tensor.permute(2, 3, 1, 0) if tensor.ndim == 4 else tensor.T  # noqa: PLW2901
        if module.endswith(("q_proj", "k_proj", "v_proj")) and kind == "bias":
            tensor = tensor.reshape(3, 4)  # noqa: PLW2901
        kind = {"weight": "scale" if "norm" in module else "kernel"}.get(kind, kind)
        out[f"{JAX.get(module) or _within_block(module)}/{kind}" if module else JAX[name]] = tensor
    return out


JAX = {
    "cls_token": "cls",
    "pos_embed": "Transformer/posembed_input/pos_embedding",
    "patch_embed.proj": "embedding",
    "norm": "Transformer/encoder_norm",
    "norm1": "LayerNorm_0",
    "norm2": "LayerNorm_2",
    "attn.q_proj": "MultiHeadDotProductAttention_1/query",
    "attn.k_proj": "MultiHeadDotProductAttention_1/key",
    "attn.v_proj": "MultiHeadDotProductAttention_1/value",
    "attn.proj": "MultiHeadDotProductAttention_1/out",
    "fc1": "MlpBlock_3/Dense_0",
    "fc2": "MlpBlock_3/Dense_1",
}


def _within_block(module: str) -> str:
    block, _, rest = module.rpartition("/")
    return f"{block}/{JAX[rest]}"


def big_vision(given: Table) -> Table:
    """The same with all blocks in one tensor, numbered otherwise."""
    out: Table = {}
    for name, tensor in jax(given).items():
        plain = name.replace("LayerNorm_2", "LayerNorm_1").replace("Attention_1", "Attention_0")
        plain = plain.replace("MlpBlock_3", "MlpBlock_0").replace("Transformer/posembed_input/", "")
        if "encoderblock_1" in name:
            continue
        if "encoderblock_0" in name:
            both = [tensor, jax(given)[name.replace("encoderblock_0", "encoderblock_1")]]
            out[plain.replace("encoderblock_0", "encoderblock")] = torch.stack(both)
        else:
            out[plain] = tensor
    return out


@pytest.mark.parametrize(
    "rename",
    [
        split, bare, classifier_of_hugging_face, full_mae, deit, fine_tuned_mae, chunked, jax, big_vision,
    ],
)  # fmt: skip
def test_the_same_weights_have_the_same_hash_under_every_layouts_names(expected: Table, rename: Any) -> None:
    given = mite.encoder()
    renamed = rename(given)
    assert renamed.keys() != given.keys()
    assert tensor_file.content_hash(translate(renamed, expected)) == tensor_file.content_hash(given)


def test_jaxs_names_and_layouts_are_those_that_timm_reads(tmp_path: Path) -> None:
    names = {name: tensor.numpy() for name, tensor in jax(mite.encoder()).items()}
    np.savez(tmp_path / "x.npz", **{f"opt/target/{name}": array for name, array in names.items()})
    vit = backbone.build(mite.MODEL)
    vit.load_pretrained(str(tmp_path / "x.npz"))
    assert tensor_file.content_hash(vit.state_dict()) == tensor_file.content_hash(mite.encoder())


def dinov2_of_hugging_face(timms: Table) -> Table:
    out: Table = {"embeddings.mask_token": torch.zeros(1, 12)}
    for name, tensor in split(timms).items():
        module, _, kind = name.rpartition(".")
        block, _, part = re.sub(r"^blocks\.(\d+)\.", r"encoder.layer.\1/", module).rpartition("/")
        if part in {"ls1", "ls2"}:
            out[f"{block}.layer_scale{part[-1]}.lambda1"] = tensor
        elif block:
            within = f"mlp.{part}" if part in {"fc1", "fc2"} else part if "norm" in part else HUGGING_FACE[part]
            out[f"{block}.{within}.{kind}"] = tensor
        else:
            out[f"{HUGGING_FACE[module]}.{kind}" if module else HUGGING_FACE[kind]] = tensor
    return out


def test_dinov2_of_hugging_face_has_the_hash_of_timms(expected: Table) -> None:
    scales = {f"blocks.{i}.ls{j}.gamma": torch.full((12,), i + j / 2) for i in (0, 1) for j in (1, 2)}
    timms = {**mite.encoder(), **scales}
    renamed = dinov2_of_hugging_face(timms)
    assert {
        "embeddings.cls_token",
        "encoder.layer.1.layer_scale2.lambda1",
        "encoder.layer.0.attention.attention.query.weight",
        "encoder.layer.0.mlp.fc1.bias",
        "layernorm.weight",
    } <= renamed.keys()
    translated = translate(renamed, {**expected, **scales})
    assert tensor_file.content_hash(translated) == tensor_file.content_hash(timms)


def test_positions_of_another_grid_are_kept_for_one_interpolation_and_told(
    expected: Table, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    other = {**mite.encoder(), "pos_embed": torch.randn(1, 1 + 9, 12)}
    translated = translate(other, expected)
    assert torch.equal(translated["pos_embed"], other["pos_embed"])
    assert "position embeddings for 3 x 3 patches, but the architecture has 2 x 2" in caplog.text
    vit = backbone.build(mite.MODEL, 12)
    backbone.load_encoder(vit, translated)
    assert torch.equal(vit.pos_embed, other["pos_embed"]), "the file's own grid was interpolated twice"


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (9, "for 3² patches and 0, but backbone.model for 2² patches and 1"),
        (8, "for 2² patches and 4"),
        (0, "for 0 positions"),
    ],
)
def test_positions_of_other_tokens_are_told_with_both_numbers(expected: Table, count: int, words: str) -> None:
    with pytest.raises(UserError, match=words):
        translate({**mite.encoder(), "pos_embed": torch.zeros(1, count, 12)}, expected)


@pytest.mark.parametrize("name", ["reg_token", "register_tokens"])
def test_registers_that_the_architecture_lacks_are_told(expected: Table, name: str) -> None:
    with pytest.raises(UserError, match=r"has 4 register tokens, backbone\.model has none"):
        translate({**mite.encoder(), name: torch.zeros(1, 4, 12)}, expected)
    with pytest.raises(UserError, match=r"has no register tokens, backbone\.model has 4"):
        translate(mite.encoder(), {**expected, "reg_token": torch.zeros(1, 4, 12)})


def test_the_nearest_name_of_what_is_missing_is_told(expected: Table) -> None:
    other = {name.replace("blocks.", "layers."): tensor for name, tensor in mite.encoder().items()}
    with pytest.raises(UserError, match=r"its name closest to the first of these is layers\.0\.attn\.proj\.bias"):
        translate(other, expected)


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn, torch.bool])
def test_numbers_that_are_no_plain_floats_are_refused(expected: Table, dtype: torch.dtype) -> None:
    given = {**mite.encoder(), "norm.weight": torch.ones(12).to(dtype)}
    with pytest.raises(UserError, match=r"no floating-point numbers in norm\.weight \(torch\."):
        translate(given, expected)


def test_float64_that_is_infinite_in_float32_is_refused(expected: Table) -> None:
    given = {**mite.encoder(), "norm.weight": torch.full((12,), 1e300, dtype=torch.float64)}
    with pytest.raises(UserError, match=r"not finite \(in fp32\) in norm\.weight"):
        translate(given, expected)


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


@pytest.mark.parametrize("twice", ["blocks.0.attn.q_proj.bias", "blocks.1.fc1.bias", "layernorm.bias"])
def test_two_layouts_in_one_file_are_refused(expected: Table, twice: str) -> None:
    every = {**split(mite.encoder()), **bare(mite.encoder())}
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
