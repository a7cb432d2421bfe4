"""Attention maps: the attention that each patch gets in the last block.

For a class-token head this is the attention of the class token, for a mean-pooled head the mean over the patches; both
are averaged over the attention heads. A map shows where the last block looks, not why the model answers as it does.

Shapes: B images, N tokens, P patches, g patches a side, D width, H heads, d width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adaptformer.data.eval_images import Images
from adaptformer.data.preprocessing import ImageContract
from adaptformer.data.resizing import centre_crop
from adaptformer.model import inference
from adaptformer.model.classifier import Classifier

_BATCH = 16
_DARKEST = 0.25
"""The share of its brightness that a patch without attention keeps."""


@torch.no_grad()
def maps(model: Classifier, images: Tensor) -> NDArray[np.float32]:
    """Return the attention maps [B, g, g] of normalised images [B, 3, s, s]; the largest value of each map is 1."""
    last: Any = model.vit.blocks[-1]
    plain = getattr(last, "block", last)  # adapters and prompts wrap timm's block
    normed: list[Tensor] = []
    handle = plain.norm1.register_forward_hook(lambda _module, _inputs, output: normed.append(output))
    try:
        with inference.in_mode(model, training=False):
            model(images)
    finally:
        handle.remove()
    tokens = normed[-1].float()  # deep prompts are normed before the image's tokens
    attn, patches = plain.attn, model.vit.patch_embed.num_patches
    parts = attn.qkv(tokens).unflatten(-1, (3, attn.num_heads, attn.head_dim)).permute(2, 0, 3, 1, 4)
    query, key = attn.q_norm(parts[0]), attn.k_norm(parts[1])
    first = tokens.shape[1] - patches - model.prefix_tokens  # the number of prompts among the tokens
    asking = query[:, :, -patches:] if model.pooling == "mean" else query[:, :, first : first + 1]
    weights = (asking * attn.scale @ key.transpose(-2, -1)).softmax(-1)[..., -patches:].mean(dim=(1, 2))
    grid = weights.unflatten(1, model.vit.patch_embed.grid_size)
    scaled: NDArray[np.float32] = (grid / grid.amax(dim=(1, 2), keepdim=True)).cpu().numpy()
    return scaled


def overlaid(pixels: NDArray[np.uint8], weights: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return an image [s, s, 3], darkened in the places of smaller weights [g, g]."""
    rows, columns = (
        np.arange(side) * cells // side for side, cells in zip(pixels.shape[:2], weights.shape, strict=True)
    )
    light = _DARKEST + (1 - _DARKEST) * weights[np.ix_(rows, columns)]
    darkened: NDArray[np.uint8] = np.rint(pixels * light[..., None]).astype(np.uint8)
    return darkened


def pictures(
    model: Classifier, images: Images, contract: ImageContract, indices: Sequence[int], device: torch.device
) -> list[NDArray[np.uint8]]:
    """Return the `indices` stored images as the model sees them, [s, s, 3], shaded by its attention."""
    rows = np.array(indices, np.int64)
    seen = inference.prepared(images, rows, contract, batch_size=_BATCH, device=device)
    weights = [each for batch in seen for each in maps(model, batch)]
    return [
        overlaid(np.asarray(centre_crop(images[index], contract.size)), each)
        for index, each in zip(rows, weights, strict=True)
    ]
