"""Masked autoencoder (He et al., arXiv 2111.06377): an encoder sees a quarter of the patches, a decoder predicts all.

Shapes: B images, N patches, K kept patches, D encoder width, W decoder width, P values of a patch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from adaptformer.model import backbone

MASKED = 0.75


class MaskedAutoencoder(nn.Module):
    """A timm VisionTransformer as encoder, with a small decoder that is discarded after pretraining."""

    decoder_positions: Tensor

    def __init__(self, vit: backbone.VisionTransformer, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.vit = vit
        self.patch: int = vit.patch_embed.patch_size[0]
        patches: int = vit.patch_embed.num_patches
        side = math.isqrt(patches)
        positions = sine_positions(vit.embed_dim, side)
        with torch.no_grad():
            vit.pos_embed.copy_(positions)
            vit.pos_embed.requires_grad_(False)
        self.embed = nn.Linear(vit.embed_dim, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer("decoder_positions", sine_positions(width, side))
        self.decoder = nn.Sequential(*[backbone.block(width, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.paint = nn.Linear(width, 3 * self.patch**2)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, images: Tensor, order: Tensor) -> Tensor:
        """Return the mean squared error on hidden patches of normalised images [B, 3, s, s].

        `order` [B, N] is a random order of each image's patches; the first quarter is kept. The targets are patches
        normalised by their own mean and variance, which gives better features according to the paper.
        """
        kept = round(order.shape[1] * (1 - MASKED))
        keep, hidden = order[:, :kept], order[:, kept:]
        encoded = self.embed(self._encode(images, keep))
        full = self.mask_token.expand(len(images), order.shape[1], -1).to(encoded.dtype)
        full = full.scatter(1, _index(keep, encoded.shape[2]), encoded[:, 1:])
        tokens = torch.cat([encoded[:, :1], full], dim=1) + self.decoder_positions
        painted = self.paint(self.norm(self.decoder(tokens)))[:, 1:]
        target = patchify(images, self.patch)
        target = (target - target.mean(2, keepdim=True)) / (target.var(2, keepdim=True) + 1e-6).sqrt()
        error = (painted - target).square().mean(2)
        loss: Tensor = error.gather(1, hidden).mean()
        return loss

    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters, other than vectors, that do not decay; the encoder lists its own."""
        return {"mask_token"}

    def _encode(self, images: Tensor, keep: Tensor) -> Tensor:
        """Return the encoder's tokens [B, 1 + K, D] of the kept patches [B, K] only."""
        vit = self.vit
        patches = vit.patch_embed(images) + vit.pos_embed[:, 1:]
        patches = patches.gather(1, _index(keep, patches.shape[2]))
        token = (vit.cls_token + vit.pos_embed[:, :1]).expand(len(images), -1, -1)
        encoded: Tensor = vit.norm(vit.blocks(torch.cat([token, patches], dim=1)))
        return encoded


def _index(patches: Tensor, width: int) -> Tensor:
    return patches.unsqueeze(-1).expand(-1, -1, width)


def patchify(images: Tensor, patch: int) -> Tensor:
    """Return images [B, 3, s, s] as patches [B, N, P] in the order of the tokens, P = 3·patch²."""
    batch, _, side, _ = images.shape
    grid = images.unflatten(2, (side // patch, patch)).unflatten(4, (side // patch, patch))
    patches: Tensor = grid.permute(0, 2, 4, 3, 5, 1).reshape(batch, (side // patch) ** 2, 3 * patch**2)
    return patches


def sine_positions(width: int, side: int) -> Tensor:
    """Return fixed sine-cosine embeddings [1, 1 + side², width], zero for the class token."""
    frequencies = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    steps = torch.arange(side, dtype=torch.float64)
    angles = torch.outer(steps, frequencies)
    one_axis = torch.cat([angles.sin(), angles.cos()], dim=1)  # [side, width / 2]
    columns = one_axis.unsqueeze(0).expand(side, -1, -1)
    rows = one_axis.unsqueeze(1).expand(-1, side, -1)
    grid = torch.cat([columns, rows], dim=2).reshape(side**2, width)
    return torch.cat([torch.zeros(1, width, dtype=torch.float64), grid]).unsqueeze(0).float()
