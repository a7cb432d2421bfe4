"""The adapter and its block against the formulas of the paper, written out again with matrix products."""

from __future__ import annotations

import math
from typing import Any

import mite
import pytest
import torch
from torch import Tensor, nn

from adaptformer.model import backbone
from adaptformer.model.adapter import AdaptedBlock, Adapter
from adaptformer.model.backbone import DropPath

D, R = mite.WIDTH, 5


def tokens(seed: int = 0) -> Tensor:
    return torch.randn(2, 7, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def adapter(seed: int = 0, **changes: Any) -> Adapter:
    """An adapter in double precision with nothing left at its initial value."""
    torch.manual_seed(seed)
    made = Adapter(D, R, **{"scale": 0.1, "dropout": 0.0, "layernorm": "none", **changes}).double()
    numbers = torch.Generator().manual_seed(100 + seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=numbers, dtype=torch.float64))
    return made


def block() -> nn.Module:
    """The mite's first block in double precision, its weights not at their defaults."""
    vit = mite.model().vit
    inner: nn.Module = vit.blocks[0].block
    return inner.double()


def normalised(x: Tensor, norm: Any) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias


def affine(x: Tensor, linear: Any) -> Tensor:
    return x @ linear.weight.T + linear.bias


def branch(x: Tensor, made: Adapter, scale: float | Tensor = 0.1) -> Tensor:
    """s·(Wu·ReLU(Wd·x + bd) + bu)"""
    return scale * affine(affine(x, made.down).clamp(min=0), made.up)


def attention(x: Tensor, attn: Any, heads: int = 3) -> Tensor:
    batch, count, width = x.shape
    query, key, value = affine(x, attn.qkv).view(batch, count, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    weights = (query @ key.mT / math.sqrt(width // heads)).exp()
    mixed = weights / weights.sum(-1, keepdim=True) @ value
    return affine(mixed.transpose(1, 2).reshape(batch, count, width), attn.proj)


def feed_forward(x: Tensor, mlp: Any) -> Tensor:
    hidden = affine(x, mlp.fc1)
    return affine(hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2))), mlp.fc2)


def test_the_branch_is_the_papers_formula() -> None:
    made = adapter()
    torch.testing.assert_close(made(tokens()), branch(tokens(), made))


def test_a_learned_scale_starts_at_one_and_is_a_parameter() -> None:
    made = Adapter(D, R, scale="learned", dropout=0.0, layernorm="none").double()
    assert dict(made.named_parameters())["scale"].tolist() == [1.0]
    stirred = adapter(scale="learned")
    assert not torch.allclose(stirred.scale, torch.ones(1, dtype=torch.float64))
    torch.testing.assert_close(stirred(tokens()), branch(tokens(), stirred, stirred.scale))


def test_a_fixed_scale_is_no_parameter() -> None:
    assert "scale" not in dict(adapter().named_parameters())


def test_layernorm_in_stands_before_the_branch() -> None:
    made = adapter(layernorm="in")
    torch.testing.assert_close(made(tokens()), branch(normalised(tokens(), made.norm_in), made))


def test_layernorm_out_stands_behind_the_scale_and_undoes_it() -> None:
    made = adapter(layernorm="out")
    torch.testing.assert_close(made(tokens()), normalised(branch(tokens(), made), made.norm_out))
    louder = adapter(layernorm="out", scale=100.0)
    torch.testing.assert_close(made(tokens()), louder(tokens()), rtol=1e-2, atol=1e-3)


def test_dropout_stands_between_relu_and_the_upward_product() -> None:
    made = adapter(dropout=0.5)
    torch.testing.assert_close(made.eval()(tokens()), branch(tokens(), made))
    torch.manual_seed(0)
    dropped = made.train()(tokens())
    torch.manual_seed(0)
    hidden = nn.functional.dropout(affine(tokens(), made.down).clamp(min=0), 0.5)
    torch.testing.assert_close(dropped, 0.1 * affine(hidden, made.up))
    assert not torch.allclose(dropped, branch(tokens(), made))


def test_an_adapter_starts_at_zero_with_kaiming_uniform_downward_weights() -> None:
    torch.manual_seed(0)
    made = Adapter(400, 300, scale=0.1, dropout=0.0, layernorm="none")
    for zero in (made.down.bias, made.up.weight, made.up.bias):
        assert not zero.any()
    # Kaiming uniform with a = √5: within ±√(6 / ((1 + a²)·width)) = ±1/√width, evenly.
    bound = 1 / math.sqrt(400)
    assert made.down.weight.abs().max().item() == pytest.approx(bound, rel=1e-3)
    assert made.down.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=1e-2)


def test_a_parallel_block_reads_the_raw_tokens_behind_attention() -> None:
    inner, made, x = block(), adapter(), tokens()
    behind = x + attention(normalised(x, inner.norm1), inner.attn)
    expected = behind + feed_forward(normalised(behind, inner.norm2), inner.mlp) + branch(behind, made)
    torch.testing.assert_close(AdaptedBlock(inner, [made], "parallel")(x), expected)


def test_a_sequential_block_reads_the_feed_forward_output() -> None:
    inner, made, x = block(), adapter(), tokens()
    behind = x + attention(normalised(x, inner.norm1), inner.attn)
    output = feed_forward(normalised(behind, inner.norm2), inner.mlp)
    torch.testing.assert_close(AdaptedBlock(inner, [made], "sequential")(x), behind + output + branch(output, made))


@pytest.mark.parametrize("placement", ["parallel", "sequential"])
def test_slots_read_the_same_tokens_and_are_summed(placement: Any) -> None:
    inner, slots, x = block(), [adapter(seed) for seed in range(3)], tokens()
    behind = x + attention(normalised(x, inner.norm1), inner.attn)
    output = feed_forward(normalised(behind, inner.norm2), inner.mlp)
    source = behind if placement == "parallel" else output
    expected = behind + output + sum(branch(source, slot) for slot in slots)
    torch.testing.assert_close(AdaptedBlock(inner, slots, placement)(x), expected)


def test_the_adapter_lies_outside_of_stochastic_depth() -> None:
    inner, made, x = block(), adapter(), tokens()
    inner.drop_path1 = inner.drop_path2 = DropPath(1.0)  # every sample loses attention and feed-forward
    adapted = AdaptedBlock(inner, [made], "parallel").train()
    torch.testing.assert_close(adapted(x), x + branch(x, made))


def test_stochastic_depth_holds_back_attention_and_feed_forward_apart() -> None:
    inner, made, x = block(), adapter(), tokens()
    inner.drop_path2 = DropPath(1.0)
    behind = x + attention(normalised(x, inner.norm1), inner.attn)
    adapted = AdaptedBlock(inner, [made], "parallel").train()
    torch.testing.assert_close(adapted(x), behind + branch(behind, made))


def test_layer_scale_of_a_backbone_is_applied() -> None:
    inner, made, x = block(), adapter(), tokens()

    class Scaled(nn.Module):
        def __init__(self, gamma: float) -> None:
            super().__init__()
            self.gamma = gamma

        def forward(self, value: Tensor) -> Tensor:
            return value * self.gamma

    inner.ls1, inner.ls2 = Scaled(2.0), Scaled(3.0)
    behind = x + 2 * attention(normalised(x, inner.norm1), inner.attn)
    expected = behind + 3 * feed_forward(normalised(behind, inner.norm2), inner.mlp) + branch(behind, made)
    torch.testing.assert_close(AdaptedBlock(inner, [made], "parallel")(x), expected)


def block_parts(inner, x):
    """Return x' and the feed-forward part's output of a plain block."""
    behind = x + inner.attn(inner.norm1(x))
    return behind, inner.mlp(inner.norm2(behind))


def gelu_branch(x, made):
    hidden = x @ made.down.weight.T + made.down.bias
    hidden = 0.5 * hidden * (1 + torch.erf(hidden / 2**0.5))
    return (hidden @ made.up.weight.T + made.up.bias) * made.scale


@pytest.mark.parametrize(("placement", "reads"), [("after", "residual"), ("parallel", "norm2")])
def test_adapter_plus_and_norm2_against_their_formulas(placement, reads):
    torch.manual_seed(5)
    inner = backbone.block(D, 2).double().eval()
    made = Adapter(D, R, "channel", 0.0, "none", "gelu", "houlsby").double()
    with torch.no_grad():
        made.scale.copy_(torch.randn(D))
        made.up.weight.normal_()
    x = torch.randn(2, 3, D, dtype=torch.double)
    behind, output = block_parts(inner, x)
    source = behind + output if placement == "after" else inner.norm2(behind)
    expected = behind + output + gelu_branch(source, made)
    torch.testing.assert_close(AdaptedBlock(inner, [made], placement, reads)(x), expected)


def test_houlsby_starts_small_but_not_at_zero():
    torch.manual_seed(0)
    made = Adapter(400, 300, "channel", 0.0, "none", "gelu", "houlsby")
    for matrix in (made.down.weight, made.up.weight):
        assert 0.007 < matrix.std() < 0.01  # cut off at two standard deviations
        assert matrix.abs().max() <= 0.02
    assert not made.down.bias.any()
    assert made.scale.shape == (400,)


def test_drop_path_may_lie_on_the_branch():
    inner = backbone.block(D, 2).eval()
    made = Adapter(D, R, 1.0, 0.0, "none")
    torch.nn.init.ones_(made.up.bias)
    x = torch.randn(64, 3, D)
    adapted = AdaptedBlock(inner, [made], "parallel", drop_path=backbone.DropPath(0.5)).train()
    inner.eval()
    behind, output = block_parts(inner, x)
    change = (adapted(x) - behind - output).mean(dim=(1, 2))
    assert sorted({round(value, 3) for value in change.tolist()}) == [0.0, 2.0], "dropped, or doubled"
