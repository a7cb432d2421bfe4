"""Visual prompts against the method written out: concatenate in front, run the block, cut off."""

from __future__ import annotations

import math

import mite
import pytest
import torch

from adaptformer.model import backbone, classifier


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, mite.SIDE, mite.SIDE, generator=torch.Generator().manual_seed(3))


def plain_tokens(images: torch.Tensor) -> tuple[backbone.VisionTransformer, torch.Tensor]:
    vit = backbone.build(mite.MODEL, mite.SIDE)
    backbone.load_encoder(vit, mite.encoder())
    vit.eval()
    return vit, torch.cat([vit.cls_token.expand(len(images), -1, -1), vit.patch_embed(images)], 1) + vit.pos_embed


@pytest.mark.parametrize("pooling", ["mean", "token"])
def test_deep_prompts_are_new_in_every_block(images: torch.Tensor, pooling: str) -> None:
    model = mite.model(method="vpt", prompts=5, pooling=pooling).eval()
    vit, tokens = plain_tokens(images)
    with torch.no_grad():
        for block, prompted in zip(vit.blocks, model.vit.blocks, strict=True):
            assert prompted.prompts.shape == (1, 5, mite.WIDTH)
            tokens = block(torch.cat([prompted.prompts.expand(2, -1, -1), tokens], 1))[:, 5:]
        expected = tokens[:, 1:].mean(1) if pooling == "mean" else vit.norm(tokens)[:, 0]
        torch.testing.assert_close(model.pooled(images)[0], expected)


def test_shallow_prompts_go_through_all_blocks(images: torch.Tensor) -> None:
    model = mite.model(method="vpt", prompts=5, prompt_depth="shallow").eval()
    vit, tokens = plain_tokens(images)
    with torch.no_grad():
        tokens = vit.blocks(torch.cat([model.vit.blocks[0].prompts.expand(2, -1, -1), tokens], 1))
        torch.testing.assert_close(model.pooled(images)[0], tokens[:, 6:].mean(1))
    assert {name for name in classifier.trainable(model) if "prompts" in name} == {"vit.blocks.0.prompts"}


def test_the_bound_comes_from_patch_and_width_whatever_the_number_of_prompts() -> None:
    bound = math.sqrt(6 / (3 * 4 * 4 + mite.WIDTH))
    for count in (2, 400):
        largest = mite.model(method="vpt", prompts=count).vit.blocks[0].prompts.abs().max().item()
        assert largest <= bound
    assert largest > 0.99 * bound
