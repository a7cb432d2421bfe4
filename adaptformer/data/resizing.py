"""Resizing of RGB pixels to the square that the model sees.

Validation, evaluation, the parity check and the ONNX predictor all use these functions, so they see the same pixels.
Training cuts its random crops from train_images.py's images. N images, H x W pixels, S = contract.stored_size.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from adaptformer.data.decoding import MAX_PIXELS, Box, Decoded, Pixels, decode_reduced
from adaptformer.data.preprocessing import ImageContract

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def resample_filter(interpolation: str) -> Image.Resampling:
    """Return Pillow's filter, which antialiases when shrinking. Raises ValueError for an unknown interpolation."""
    if interpolation not in _FILTERS:
        raise ValueError(f"unknown interpolation {interpolation!r}")
    return _FILTERS[interpolation]


def square(content: bytes, contract: ImageContract, max_pixels: int | None = MAX_PIXELS) -> Pixels:
    """Return a file's image as it is stored for evaluation, [S, S, 3]: decoded at the contract's scale, resized.

    Raises DamagedImage if the bytes are not a usable image or it has more than `max_pixels`; None means no limit.
    """
    decoded = decoded_for(content, contract, max_pixels)
    return to_square(decoded.pixels, contract, decoded.box)


def to_square(image: Pixels, contract: ImageContract, box: Box | None = None) -> Pixels:
    """Resize an image [H, W, 3] uint8, or its `box`, to [S, S, 3] by the contract's policy.

    "crop" scales the shorter side to S and keeps the centre, "pad" scales the longer side to S and centres the image
    on black, "squash" scales both sides to S. Shrinking is antialiased. Raises ValueError for an unknown policy or
    interpolation.
    """
    side = contract.stored_size
    resample = resample_filter(contract.interpolation)
    left, top, right, bottom = box or (0, 0, image.shape[1], image.shape[0])
    width, height = right - left, bottom - top
    source = Image.fromarray(image)
    if contract.resize == "squash":
        return np.array(source.resize((side, side), resample, box=(left, top, right, bottom)))
    if contract.resize == "crop":
        # Scaling the centre square alone gives the same pixels as scaling the whole image and cropping, because the
        # filter still reads beyond the box; but a strip of 1 x 100,000 pixels is never enlarged to S x 100,000 S.
        short = min(height, width)
        left, top = left + (width - short) / 2, top + (height - short) / 2
        return np.array(source.resize((side, side), resample, box=(left, top, left + short, top + short)))
    if contract.resize == "pad":
        scale = side / max(height, width)
        inner = (max(1, round(width * scale)), max(1, round(height * scale)))
        padded = Image.new("RGB", (side, side))
        resized = source.resize(inner, resample, box=(left, top, right, bottom))
        padded.paste(resized, ((side - inner[0]) // 2, (side - inner[1]) // 2))
        return np.array(padded)
    raise ValueError(f"unknown resize policy {contract.resize!r}")


def centre_crop(images: Pixels, size: int) -> Pixels:
    """Return the centre [..., size, size, 3] of an image [H, W, 3] or a batch [N, H, W, 3], without copying.

    If the margin is odd, the larger half is cut at the bottom and at the right. Raises ValueError if `size` exceeds a
    side.
    """
    height, width = images.shape[-3:-1]
    if size > min(height, width):
        raise ValueError(f"cannot crop {size} pixels out of {height} x {width}")
    top, left = (height - size) // 2, (width - size) // 2
    return images[..., top : top + size, left : left + size, :]


def prepare(content: bytes, contract: ImageContract, max_pixels: int | None = MAX_PIXELS) -> Pixels:
    """Return a file's image as the model sees it: [size, size, 3] uint8, decoded, resized, cropped.

    Raises DamagedImage if the bytes are not a usable image or it has more than `max_pixels`; None means no limit.
    """
    return to_input(decoded_for(content, contract, max_pixels), contract)


def decoded_for(content: bytes, contract: ImageContract, max_pixels: int | None = MAX_PIXELS) -> Decoded:
    """Return a file's image at the scale that the contract needs. Raises DamagedImage."""
    return decode_reduced(content, contract.jpeg_min_scale * contract.stored_size, max_pixels, contract.sixteen_bit_max)


def to_input(decoded: Decoded, contract: ImageContract) -> Pixels:
    """Return a decoded image as the model sees it: [size, size, 3] uint8."""
    return np.ascontiguousarray(centre_crop(to_square(decoded.pixels, contract, decoded.box), contract.size))
