from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import mite
import onnx
import pytest
import torch
import torch.nn.functional as F
from timm.layers import LayerScale
from torch import Tensor, nn

from adaptformer.base.errors import UserError
from adaptformer.export import graph, parity
from adaptformer.export.merged_block import MergedBlock
from adaptformer.export.merging import merge
from adaptformer.model import backbone, classifier
from adaptformer.model.adapter import AdaptedBlock, Adapter
from adaptformer.model.backbone import DropPath
from adaptformer.model.classifier import Classifier

KINDS = list(
    itertools.product(
        ("mean", "token"), ("parallel", "sequential"), ("none", "in", "out"), ((4,), (4, 1, 2)), (0.3, "learned")
    )
)


def trained(**changes: Any) -> Classifier:
    """A model with dropout and DropPath whose every number is away from its start: weights, norms and statistics."""
    model = mite.stirred(mite.model(**{"dropout": 0.2, "drop_path": 0.3, **changes}))
    numbers = torch.Generator().manual_seed(2)
    with torch.no_grad():
        model.head.batch_norm.running_mean += torch.randn(mite.WIDTH, generator=numbers)
        model.head.batch_norm.running_var.uniform_(0.2, 3, generator=numbers)
    return model


def images(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(5, 3, mite.SIDE, mite.SIDE, generator=torch.Generator().manual_seed(7)).to(dtype)


def off(model: Classifier, other: nn.Module, dtype: torch.dtype = torch.float64) -> float:
    """The largest difference of logits, as a share of the largest logit."""
    with torch.no_grad():
        ours, theirs = model(images(dtype)), other(images(dtype))
    return float((ours - theirs).abs().max() / ours.abs().max())


@pytest.mark.parametrize(("pooling", "placement", "layernorm", "bottlenecks", "scale"), KINDS)
def test_every_kind_of_model_gives_the_same_logits_and_merging_twice_is_merging_once(
    pooling: str, placement: str, layernorm: str, bottlenecks: tuple[int, ...], scale: float | str
) -> None:
    model = trained(
        pooling=pooling, placement=placement, layernorm=layernorm, bottlenecks=bottlenecks, scale=scale
    )  # fmt: skip
    assert off(model, merge(model), torch.float32) <= 1e-5
    exact = model.double()
    merged = merge(exact)
    assert off(exact, merged) <= 1e-12
    twice = merge(merged)
    assert off(merged, twice) == 0
    assert {n: t.tolist() for n, t in twice.state_dict().items()} == {
        n: t.tolist() for n, t in merged.state_dict().items()
    }


def plainly(model: Classifier, placement: str, reads: str, activation: str, pictures: Tensor) -> Tensor:
    """Logits by the formulas, for kinds of adapters that differ in more than `build` may know of."""
    act = F.relu if activation == "relu" else F.gelu
    vit = model.vit
    tokens = vit._pos_embed(vit.patch_embed(pictures))
    for adapted in vit.blocks:
        block = adapted.block
        x = tokens + block.attn(block.norm1(tokens))
        f = block.mlp(block.norm2(x))
        source = {"residual": x, "norm2": block.norm2(x)}[reads]
        source = {"parallel": source, "sequential": f, "after": x + f}[placement]
        tokens = x + f
        for slot in adapted.adapters:
            tokens = tokens + (act(slot.norm_in(source) @ slot.down.weight.T + slot.down.bias) @ slot.up.weight.T
                               + slot.up.bias) * slot.scale  # fmt: skip
    features = vit.norm(tokens)
    return model.head(features[:, 0] if model.pooling == "token" else features[:, 1:].mean(1))


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize(
    ("placement", "reads"),
    [
        ("parallel", "residual"), ("parallel", "norm2"), ("sequential", "residual"), ("after", "residual"),
        ("sequential", "norm2"), ("after", "norm2"),  # only parallel ones have a choice
    ],
)  # fmt: skip
@pytest.mark.parametrize("pooling", ["mean", "token"])
def test_adapters_of_other_kinds_follow_their_formulas(
    pooling: str, placement: str, reads: str, activation: str
) -> None:
    model = trained(pooling=pooling, bottlenecks=(4, 2), layernorm="in", drop_path=0.0).double()
    numbers = torch.Generator().manual_seed(3)
    for adapted in model.vit.blocks:
        adapted.placement, adapted.reads = placement, reads
        for slot in adapted.adapters:
            slot.activation = activation
            slot.scale = nn.Parameter(torch.randn(mite.WIDTH, generator=numbers, dtype=torch.float64))
    with torch.no_grad():
        expected = plainly(model, placement, reads, activation, images(torch.float64))
        torch.testing.assert_close(merge(model)(images(torch.float64)), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("pooling", ["mean", "token"])
@pytest.mark.parametrize("placement", ["parallel", "sequential"])
def test_layer_scale_is_folded(pooling: str, placement: str) -> None:
    model = trained(pooling=pooling, placement=placement)
    for adapted in model.vit.blocks:
        for name in ("ls1", "ls2"):
            scale = LayerScale(mite.WIDTH)
            nn.init.normal_(scale.gamma, generator=torch.Generator().manual_seed(4))
            setattr(adapted.block, name, scale)
    merged = merge(model.double())
    assert off(model, merged) <= 1e-12
    assert not [module for module in merged.modules() if isinstance(module, LayerScale)]


@pytest.mark.parametrize("pooling", ["mean", "token"])
def test_blocks_without_adapters_pass(pooling: str) -> None:
    emptied, plain = trained(pooling=pooling).double(), trained(pooling=pooling).double()
    for index in range(mite.DEPTH):
        emptied.vit.blocks[index].adapters = nn.ModuleList()
        plain.vit.blocks[index] = plain.vit.blocks[index].block
    assert off(plain, merge(plain)) <= 1e-12
    assert off(emptied, merge(emptied)) <= 1e-12
    assert off(plain, emptied) == 0


@pytest.mark.parametrize("fused", [True, False])
def test_attention_with_norms_a_gate_and_no_biases_is_merged(fused: bool) -> None:
    model = trained(pooling="token")
    attention = model.vit.blocks[-1].block.attn
    torch.manual_seed(0)
    attention.qkv = nn.Linear(mite.WIDTH, 3 * mite.WIDTH, bias=False)
    attention.q_norm, attention.k_norm = nn.LayerNorm(4), nn.LayerNorm(4)
    for norm in (attention.q_norm, attention.k_norm):
        nn.init.normal_(norm.weight)
    attention.norm, attention.gate = nn.LayerNorm(mite.WIDTH), nn.Linear(mite.WIDTH, mite.WIDTH)
    attention.fused_attn = fused
    assert off(model.double(), merge(model)) <= 1e-12


@pytest.mark.parametrize(("pooling", "rows"), [("token", 1), ("mean", 5)])
def test_the_last_block_computes_the_rows_that_the_head_reads(pooling: str, rows: int) -> None:
    seen: dict[str, list[tuple[int, ...]]] = {"mlp": [], "proj": [], "adapter": [], "norm1": []}
    merged = merge(trained(pooling=pooling))
    for block in merged.vit.blocks:
        parts = {"mlp": block.mlp, "proj": block.attn.proj, "adapter": block.adapters[0], "norm1": block.norm1}
        for name, part in parts.items():
            part.register_forward_hook(lambda _, given, __, name=name: seen[name].append(tuple(given[0].shape)))
    merged(images())
    every, last = (5, 5, mite.WIDTH), (5, rows, mite.WIDTH)
    assert seen == {"mlp": [every, last], "proj": [every, last], "adapter": [every, last], "norm1": [every, every]}


def blocks(model: Classifier) -> list[MergedBlock]:
    found = [block for block in model.vit.blocks if isinstance(block, MergedBlock)]
    assert len(found) == mite.DEPTH
    return found


@pytest.mark.parametrize("layernorm", ["none", "in"])
def test_slots_become_one_adapter_of_their_summed_width_whose_value_is_their_sum(layernorm: str) -> None:
    model = trained(bottlenecks=(4, 1, 2), scale="learned", layernorm=layernorm, placement="sequential").double()
    tokens = torch.randn(2, 5, mite.WIDTH, dtype=torch.float64)
    for adapted, block in zip(model.vit.blocks, blocks(merge(model)), strict=True):
        (adapter,) = block.adapters
        assert (adapter.down.weight.shape, adapter.up.weight.shape) == ((7, mite.WIDTH), (mite.WIDTH, 7))
        torch.testing.assert_close(adapter(tokens), sum(slot(tokens) for slot in adapted.adapters), rtol=0, atol=1e-12)


def test_slots_that_cannot_be_one_stay_apart() -> None:
    unlike = trained(bottlenecks=(4, 2), layernorm="in").double()
    for adapted in unlike.vit.blocks:
        adapted.adapters[1].norm_in.eps = 0.1
    for model in (trained(bottlenecks=(4, 2), layernorm="out").double(), unlike):
        merged = merge(model)
        assert [len(block.adapters) for block in blocks(merged)] == [2, 2]
        assert off(model, merged) <= 1e-12


@pytest.mark.parametrize("unlike", ["activation", "norm_in", "norm_out of the second", "norm_out of the first"])
def test_slots_of_one_block_that_differ_in_anything_stay_apart(unlike: str) -> None:
    model = trained(bottlenecks=(4, 2)).double()
    for adapted in model.vit.blocks:
        first, second = adapted.adapters
        norm = nn.LayerNorm(mite.WIDTH).double()
        nn.init.normal_(norm.weight, generator=torch.Generator().manual_seed(5))
        if unlike == "activation":
            second.activation = "gelu"
        elif unlike == "norm_in":
            second.norm_in = norm
        elif unlike == "norm_out of the second":
            second.norm_out = norm
        else:
            first.norm_out = norm
    merged = merge(model)
    assert [len(block.adapters) for block in blocks(merged)] == [2, 2]
    assert off(model, merged) <= 1e-12
    for block in blocks(merged):
        kept = [adapter.up.bias is not None for adapter in block.adapters]
        assert kept == [unlike == f"norm_out of the {number}" for number in ("first", "second")]


@pytest.mark.parametrize("placement", ["parallel", "sequential"])
@pytest.mark.parametrize("pooling", ["mean", "token"])
def test_layers_without_biases_are_folded(pooling: str, placement: str) -> None:
    model = trained(pooling=pooling, placement=placement)
    model.head.linear.bias = None
    for adapted in model.vit.blocks:
        adapted.block.mlp.fc2.bias = adapted.block.attn.proj.bias = None
        for name in ("ls1", "ls2"):
            scale = LayerScale(mite.WIDTH)
            nn.init.normal_(scale.gamma, generator=torch.Generator().manual_seed(6))
            setattr(adapted.block, name, scale)
    assert off(model.double(), merge(model)) <= 1e-12


@pytest.mark.parametrize("missing", ["weight", "bias"])
def test_norms_that_lack_half_of_their_affine_are_folded(missing: str) -> None:
    model = trained(layernorm="in").double()
    for adapted in model.vit.blocks:
        setattr(adapted.adapters[0].norm_in, missing, None)
    assert off(model, merge(model)) <= 1e-12


def test_a_distilled_models_last_block_computes_both_rows_and_both_heads_are_folded() -> None:
    name = "deit_tiny_distilled_patch16_224"
    settings = mite.settings(pooling="token", bottlenecks=[4])
    encoder = backbone.build(name).state_dict()
    model = mite.stirred(classifier.build(name, encoder, settings, image_size=32, classes=3, seed=0)).double()
    numbers = torch.Generator().manual_seed(8)
    with torch.no_grad():
        model.vit.norm.weight.normal_(generator=numbers)
        model.vit.norm.bias.normal_(generator=numbers)
    merged = merge(model)
    pictures = torch.randn(2, 3, 32, 32, generator=numbers, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(merged(pictures), model(pictures), rtol=1e-12, atol=1e-12)
        assert merged.vit.forward_features(pictures).shape[1] == 2
    names = {n for n in merged.state_dict() if n.startswith("head")}
    assert names == {f"{head}.linear.{part}" for head in ("head", "head_dist") for part in ("weight", "bias")}


@pytest.mark.parametrize(
    ("changes", "moved"),
    [
        ({}, True),
        ({"layernorm": "in"}, True),
        ({"input": "norm2"}, True),
        ({"placement": "after"}, False),
        ({"layernorm": "out"}, False),
        ({"placement": "sequential"}, False),
    ],
    ids=str,
)
def test_the_output_bias_moves_into_fc2_where_nothing_stands_between(changes: dict[str, Any], moved: bool) -> None:
    model = trained(bottlenecks=(4, 2), **changes)
    for adapted, block in zip(model.vit.blocks, blocks(merge(model)), strict=True):
        assert torch.equal(block.mlp.fc2.bias, adapted.block.mlp.fc2.bias) is not moved
        assert all((adapter.up.bias is None) is moved for adapter in block.adapters)


@pytest.mark.parametrize("pooling", ["mean", "token"])
def test_what_was_folded_is_gone(pooling: str) -> None:
    merged = merge(trained(pooling=pooling, bottlenecks=(4, 2), scale="learned", layernorm="in"))
    kinds = {type(module) for module in merged.modules()}
    assert not kinds & {nn.BatchNorm1d, DropPath, AdaptedBlock, Adapter}
    assert [m.p for m in merged.modules() if isinstance(m, nn.Dropout)] == [0.0] * (2 if pooling == "mean" else 1)
    names = set(merged.state_dict())
    assert {name for name in names if name.startswith("head.")} == {"head.linear.weight", "head.linear.bias"}
    assert not [name for name in names if name.startswith("vit.norm.") or "norm_in" in name or "scale" in name]
    for each in (merged, merge(trained(layernorm="out"))):
        assert not [name for name, parameter in each.named_parameters() if parameter.requires_grad]
    assert not any(module.training for module in merged.modules())
    assert off(merged, copy.deepcopy(merged).train(), torch.float32) == 0


def test_the_original_is_left_as_it_is() -> None:
    model = trained(pooling="token", bottlenecks=(4, 2), scale="learned", layernorm="in").train()
    before = copy.deepcopy(model)
    merge(model)
    state, expected = model.state_dict(), before.state_dict()
    assert list(state) == list(expected)
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    assert repr(model) == repr(before)
    assert [m.training for m in model.modules()] == [m.training for m in before.modules()]
    assert [p.requires_grad for p in model.parameters()] == [p.requires_grad for p in before.parameters()]


@pytest.mark.parametrize("pooling", ["mean", "token"])
def test_weights_that_merging_does_not_change_are_not_copied(pooling: str) -> None:
    model = trained(pooling=pooling, bottlenecks=(4, 2), scale="learned", layernorm="in")
    mine = {tensor.untyped_storage().data_ptr() for tensor in model.state_dict().values()}
    copied = {n for n, t in merge(model).state_dict().items() if t.untyped_storage().data_ptr() not in mine}
    blocks = {f"vit.blocks.{index}.{name}" for index in range(mite.DEPTH) for name in (
        "mlp.fc2.bias", "adapters.0.down.weight", "adapters.0.down.bias", "adapters.0.up.weight")}  # fmt: skip
    assert copied == blocks | {"head.linear.weight", "head.linear.bias"}


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["vit.blocks.1.adapters.0.up.weight", "head.batch_norm.running_var", "vit.pos_embed"])
def test_weights_that_are_not_finite_are_refused(name: str, number: float) -> None:
    model = trained()
    model.state_dict()[name].flatten()[-1] = number
    with pytest.raises(UserError, match=f"{name} of the trained model holds a number that is not finite"):
        merge(model)


def test_a_scale_that_is_not_finite_and_a_product_that_overflows_are_refused() -> None:
    model = trained()
    model.vit.blocks[0].adapters[0].scale = float("nan")  # params refuse it, a module does not
    with pytest.raises(UserError, match="not finite"):
        merge(model)
    with pytest.raises(UserError, match="not finite"):
        merge(trained(scale=1e39))


def test_what_merging_does_not_know_is_refused() -> None:
    class OtherAdapter(Adapter):
        pass

    def changed(change: Any) -> Classifier:
        model = trained(pooling="token")
        change(model)
        return model

    def renorm(model: Classifier) -> None:
        model.vit.norm = nn.GroupNorm(1, mite.WIDTH)

    statistics = "a head whose BatchNorm has an affine or no statistics"
    changes = [
        (lambda m: setattr(m.vit.blocks[0], "gate", 0.5), "AdaptedBlock with ['gate']"),
        (lambda m: setattr(m.vit.blocks[0].adapters[0], "bend", nn.Tanh()), "Adapter with ['bend']"),
        (lambda m: setattr(m.head, "second", nn.Linear(mite.WIDTH, 3)), "Head with ['second']"),
        (lambda m: setattr(m, "prompts", nn.Parameter(torch.ones(1))), "Classifier with ['prompts']"),
        (lambda m: setattr(m, "pooling", "both"), "pooling both"),
        (lambda m: setattr(m.vit.blocks[0], "placement", "before"), "adapters placed before residual"),
        (lambda m: setattr(m.vit.blocks[0].adapters[0], "__class__", OtherAdapter), "OtherAdapter with more"),
        (lambda m: m.vit.blocks.insert(0, nn.Identity()), "a block of the kind Identity"),
        (lambda m: setattr(m.vit.blocks[1].block, "attn", nn.Identity()), "a block of the kind Block"),
        (lambda m: setattr(m.head, "batch_norm", nn.BatchNorm1d(mite.WIDTH)), statistics),
        (lambda m: setattr(m.head.batch_norm, "running_mean", None), statistics),
        (lambda m: setattr(m.head.batch_norm, "running_var", None), statistics),
        (renorm, "a norm of the kind GroupNorm"),
    ]
    for change, told in changes:
        with pytest.raises(UserError) as caught:
            merge(changed(change))
        assert caught.value.cause == f"the model cannot be merged: {told}"
        assert caught.value.remedy == "report it; nothing was exported"


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["mean", "token"])
def test_the_exported_merged_model_agrees_with_the_unmerged_one_and_has_fewer_nodes(
    pooling: str, photos: list[Path], onnx_file: Path, tmp_path: Path
) -> None:
    settings = {"pooling": pooling, "bottlenecks": (4, 2), "scale": "learned", "layernorm": "in"}  # those of onnx_file
    model, path = trained(**settings), tmp_path / "merged.onnx"
    graph.write(path, merge(model), mite.adapter_card(**settings), 20, 1, "a" * 64)
    assert parity.check(model, path, photos, mite.CONTRACT, 1e-4, 1).relative < 1e-5
    merged, unmerged = onnx.load(path).graph, onnx.load(onnx_file).graph
    slots = 2 * mite.DEPTH  # two products each, of which half are left
    split = pooling == "token"  # q apart from k and v
    assert products(merged) == products(unmerged) - slots + split
    assert len(merged.node) < len(unmerged.node)


def products(whole: onnx.GraphProto) -> int:
    return sum(node.op_type in ("MatMul", "Gemm") for node in whole.node)


@pytest.mark.parametrize("pooling", ["mean", "token"])
@pytest.mark.parametrize(
    "settings",
    [
        {"method": "linear"},
        {"method": "full"},
        {"method": "vpt"},
        {"method": "vpt", "prompt_depth": "shallow"},
        {"placement": "after", "activation": "gelu", "scale": "channel", "init": "houlsby", "bottlenecks": [4, 2]},
        {"input": "norm2", "activation": "gelu", "scale": "channel"},
    ],
)
def test_every_method_gives_the_same_logits(pooling: str, settings: dict[str, Any]) -> None:
    model = trained(pooling=pooling, **settings)
    assert off(model, merge(model), torch.float32) <= 1e-5
    exact = copy.deepcopy(model).double()
    assert off(exact, merge(exact)) <= 1e-12
