"""Random crops and flips of a whole batch at once, on the device where the batch lies.

Shapes: B images, S stored side, s model side.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from adaptformer import randomness

_ATTEMPTS = 10  # as torchvision's RandomResizedCrop; then the largest centred crop within the ratio bounds


def random_boxes(n: int, scale: tuple[float, float], ratio: tuple[float, float], flip: bool, *key: int) -> Tensor:
    """Return one crop for each of n images as [n, 4] float32: centre x, centre y, half width, half height.

    In units of the image, whose sides span -1 … 1; a negative half width mirrors. Area share and aspect ratio are drawn
    as torchvision's RandomResizedCrop draws them (area uniform, logarithm of the ratio uniform, rejected where the box
    does not fit), but without rounding to pixels.
    """
    numbers = torch.from_numpy(randomness.uniform((n, 2 * _ATTEMPTS + 3), "crop", *key))
    area = scale[0] + (scale[1] - scale[0]) * numbers[:, :_ATTEMPTS]
    log_ratio = math.log(ratio[0]) + (math.log(ratio[1]) - math.log(ratio[0])) * numbers[:, _ATTEMPTS:-3]
    width, height = (area * log_ratio.exp()).sqrt(), (area / log_ratio.exp()).sqrt()
    fits = (width <= 1) & (height <= 1)
    first = fits.to(torch.uint8).argmax(dim=1, keepdim=True)
    fallback = min(max(1.0, ratio[0]), ratio[1])
    none_fits = ~fits.any(dim=1)
    half_width = torch.where(none_fits, min(1.0, fallback), width.gather(1, first)[:, 0])
    half_height = torch.where(none_fits, min(1.0, 1 / fallback), height.gather(1, first)[:, 0])
    place = 2 * numbers[:, -3:-1] - 1
    place[none_fits] = 0
    x, y = place[:, 0] * (1 - half_width), place[:, 1] * (1 - half_height)
    if flip:
        half_width = torch.where(numbers[:, -1] < 0.5, -half_width, half_width)
    return torch.stack([x, y, half_width, half_height], dim=1).float()


def crop(images: Tensor, boxes: Tensor, size: int, interpolation: str) -> Tensor:
    """Return the boxes of uint8 images [B, S, S, 3], resampled to float32 [B, 3, size, size] within 0 … 255."""
    x, y, half_width, half_height = boxes.unbind(1)
    zero = torch.zeros_like(x)
    theta = torch.stack([half_width, zero, x, zero, half_height, y], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(theta, [len(images), 3, size, size], align_corners=False)
    planes = images.permute(0, 3, 1, 2).float()
    sampled = F.grid_sample(planes, grid, mode=interpolation, padding_mode="border", align_corners=False)
    return sampled.clamp(0, 255)  # bicubic overshoots at edges


def centre_crop(images: Tensor, size: int) -> Tensor:
    """Return the centres of uint8 images [B, S, S, 3] as float32 [B, 3, size, size] within 0 … 255."""
    start = (images.shape[1] - size) // 2
    return images[:, start : start + size, start : start + size].permute(0, 3, 1, 2).float()


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return images [B, 3, s, s] within 0 … 255, scaled to 0 … 1, less mean and over std [3]."""
    return (images / 255 - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
