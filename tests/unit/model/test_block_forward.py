"""A block in parts against timm's own forward pass: outputs and gradients."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import mite
import pytest
import torch
from torch import Tensor, nn

from adaptformer.model import backbone, block_forward

WIDTH, PROMPTS = 12, 3
KINDS: list[dict[str, Any]] = [
    {},
    {"qkv_bias": False},
    {"init_values": 0.3},
    {"qk_norm": True},
    {"attn_drop": 0.5, "proj_drop": 0.3, "drop_path": 0.4},
]


def made(**kind: Any) -> Any:
    torch.manual_seed(0)
    plain = backbone.Block(WIDTH, 3, norm_layer=partial(nn.LayerNorm, eps=1e-6), **{"qkv_bias": True, **kind})
    for parameter in plain.parameters():
        nn.init.normal_(parameter, std=0.4)
    return plain


def tokens(count: int = 5) -> Tensor:
    return torch.randn(4, count, WIDTH, generator=torch.Generator().manual_seed(1), requires_grad=True)


def gradients(output: Tensor, *inputs: Tensor) -> list[Tensor]:
    weights = torch.arange(1.0, output.numel() + 1).view_as(output).sin()
    return list(torch.autograd.grad((output * weights).sum(), inputs))


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_all_rows_are_timms(kind: dict[str, Any], fused: bool) -> None:
    plain, x = made(**kind).train(), tokens()
    plain.attn.fused_attn = fused
    torch.manual_seed(5)
    expected = plain(x)
    torch.manual_seed(5)  # the same dropout
    found = block_forward.run(plain, x)
    torch.testing.assert_close(found, expected)
    inputs = [x, *plain.parameters()]
    torch.testing.assert_close(gradients(found, *inputs), gradients(expected, *inputs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("kind", KINDS[:4], ids=str)
@pytest.mark.parametrize("rows", [1, 2])
def test_the_first_rows_are_timms(kind: dict[str, Any], fused: bool, rows: int) -> None:
    plain, x = made(**kind), tokens()
    plain.attn.fused_attn = fused
    expected, found = plain(x)[:, :rows], block_forward.run(plain, x, rows)
    torch.testing.assert_close(found, expected)
    inputs = [x, *plain.parameters()]
    torch.testing.assert_close(gradients(found, *inputs), gradients(expected, *inputs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rows", [None, 1])
@pytest.mark.parametrize("kind", KINDS[:4], ids=str)
def test_prompts_are_seen_and_their_outputs_dropped(kind: dict[str, Any], rows: int | None) -> None:
    plain, x = made(**kind), tokens()
    prompts = torch.randn(1, PROMPTS, WIDTH, requires_grad=True)
    whole = plain(torch.cat([prompts.expand(len(x), -1, -1), x], 1))[:, PROMPTS:]
    expected = whole[:, :rows]
    attended = block_forward.attended(plain, x, rows, prompts)
    found = attended + block_forward.feed_forward(plain, plain.norm2(attended))
    torch.testing.assert_close(found, expected)
    inputs = [x, prompts, *plain.parameters()]
    torch.testing.assert_close(gradients(found, *inputs), gradients(expected, *inputs), rtol=1e-4, atol=1e-4)


def test_what_nobody_reads_is_not_computed() -> None:
    plain, seen = made(), []
    plain.mlp.register_forward_hook(lambda _, given, result: seen.append(tuple(result.shape)))
    block_forward.run(plain, tokens(), 1)
    x = block_forward.attended(plain, tokens(), None, torch.zeros(1, PROMPTS, WIDTH))
    block_forward.feed_forward(plain, x)
    assert seen == [(4, 1, WIDTH), (4, 5, WIDTH)]


@pytest.mark.parametrize("pooling", ["mean", "token"])
@pytest.mark.parametrize("method", ["adaptformer", "vpt"])
def test_compiled_blocks_give_the_same_and_all_share_what_is_compiled(method: str, pooling: str) -> None:
    torch._dynamo.reset()  # of what other tests compiled
    plain, compiled = (mite.stirred(mite.model(method=method, pooling=pooling)).train() for _ in range(2))
    graphs: list[torch.fx.GraphModule] = []

    def noting(graph: torch.fx.GraphModule, _inputs: object) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    compiled.compile_blocks(noting)
    images = torch.randn(4, 3, mite.SIDE, mite.SIDE)
    for model in (plain, compiled):
        model(images).square().sum().backward()
    for (name, expected), given in zip(plain.named_parameters(), compiled.parameters(), strict=True):
        if expected.grad is not None:
            torch.testing.assert_close(given.grad, expected.grad, msg=name)
    assert torch.equal(plain.eval()(images), compiled.eval()(images))
    assert 1 <= len(graphs) <= 4  # by mode, rows, and whether the tokens need gradients; not by block
