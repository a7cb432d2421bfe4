"""Where a model looks, against the attention that torch computes."""

from __future__ import annotations

from dataclasses import replace

import mite
import numpy as np
import pytest
import torch

from adaptformer.evaluation import attention
from adaptformer.model import inference

BATCH = mite.coloured(2).images


def normalised() -> torch.Tensor:
    (batch,) = inference.prepared(
        BATCH, np.arange(len(BATCH)), mite.CONTRACT, batch_size=99, device=torch.device("cpu")
    )
    return batch


@pytest.mark.parametrize("pooling", ["mean", "token"])
@pytest.mark.parametrize("method", ["adaptformer", "linear"])
def test_attention_maps_are_the_weights_of_the_last_block(pooling: str, method: str) -> None:
    model = mite.stirred(mite.model(pooling=pooling, method=method))
    found = attention.maps(model, normalised())
    plain = getattr(model.vit.blocks[-1], "block", model.vit.blocks[-1])
    attn = plain.attn
    with torch.no_grad():
        tokens = plain.norm1(model.forward_blocks(model.patch_tokens(normalised()), 0, mite.DEPTH - 1))
        heads = []
        for head in range(attn.num_heads):
            width = attn.head_dim
            query, key = (
                tokens @ attn.qkv.weight[start : start + width].T + attn.qkv.bias[start : start + width]
                for start in (head * width, mite.WIDTH + head * width)
            )
            heads.append(torch.softmax(query @ key.transpose(1, 2) / width**0.5, dim=-1))
    weights = torch.stack(heads).mean(0)
    expected = weights[:, 1:, 1:].mean(1) if pooling == "mean" else weights[:, 0, 1:]
    expected = (expected / expected.amax(1, keepdim=True)).reshape(-1, 2, 2)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("depth", ["deep", "shallow"])
@pytest.mark.parametrize("pooling", ["mean", "token"])
def test_prompts_are_no_patches(depth: str, pooling: str) -> None:
    model = mite.model(method="vpt", prompt_depth=depth, pooling=pooling, prompts=5)
    found = attention.maps(model, normalised())
    assert found.shape == (len(BATCH), 2, 2)
    np.testing.assert_allclose(found.max(axis=(1, 2)), 1)
    assert (found > 0).all()


def test_the_model_is_left_as_it_was() -> None:
    model = mite.model().train()
    attention.maps(model, normalised())
    assert model.training
    plain = getattr(model.vit.blocks[-1], "block", model.vit.blocks[-1])
    assert not plain.norm1._forward_hooks


def test_a_picture_is_dark_where_nothing_is_looked_at() -> None:
    white = np.full((6, 6, 3), 200, np.uint8)
    found = attention.overlaid(white, np.array([[1.0, 0.0], [0.5, 1.0]], np.float32))
    assert found[0, 0, 0] == 200
    assert found[0, 5, 0] == 50
    assert found[5, 0, 0] == 125
    assert (found[:3, :3] == 200).all()


def test_pictures_are_the_chosen_images_as_the_model_sees_them() -> None:
    contract = replace(mite.CONTRACT, crop_fraction=0.8)  # stored squares of 10 pixels
    stored = np.random.default_rng(0).integers(0, 256, (5, 10, 10, 3), dtype=np.uint8)
    model = mite.model()
    (shown,) = attention.pictures(model, stored, contract, [3], torch.device("cpu"))
    (batch,) = inference.prepared(stored, np.array([3]), contract, batch_size=1, device=torch.device("cpu"))
    np.testing.assert_array_equal(shown, attention.overlaid(stored[3, 1:9, 1:9], attention.maps(model, batch)[0]))
    assert attention.pictures(model, stored, contract, [], torch.device("cpu")) == []
