"""Pretraining of a small encoder on a folder of unlabelled images; the result is a checkpoint."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adaptformer.base import randomness
from adaptformer.base.errors import UserError
from adaptformer.data import augmentation, image_files
from adaptformer.data.decoding import DamagedImage
from adaptformer.data.preprocessing import ImageContract
from adaptformer.data.resizing import square
from adaptformer.model import backbone, tensor_file
from adaptformer.pretraining.mae import MaskedAutoencoder
from adaptformer.training.optimiser import decay_groups, pack_state, set_learning_rate, unpack_state, warmup_then_cosine

log = logging.getLogger("adaptformer")

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".ppm", ".tif", ".tiff"}


@dataclass(frozen=True)
class Recipe:
    """The settings that, together with the images, determine the weights."""

    model: str
    epochs: int
    batch_size: int = 256
    base_lr: float = 0.0015  # × batch / 256
    weight_decay: float = 0.05
    warmup_epochs: int = 2
    crop_scale: tuple[float, float] = (0.3, 1.0)
    decoder_width: int = 64
    decoder_depth: int = 1
    decoder_heads: int = 2
    seed: int = 0


def pretrain(images: Path, output: Path, recipe: Recipe, origin: str, licence: str) -> None:
    """Pretrain `recipe.model` on all images below a folder and write the encoder to `output` with its provenance.

    A killed run resumes after its last complete epoch (from a state beside `output`, removed at the end). Raises
    UserError if the folder holds no images.
    """
    randomness.seed_torch("initialise", recipe.seed)
    vit = backbone.build(recipe.model)
    model = MaskedAutoencoder(vit, recipe.decoder_width, recipe.decoder_depth, recipe.decoder_heads)
    pixels = torch.from_numpy(load(images, vit.patch_embed.img_size[0]))
    mean, std = statistics(pixels)
    optimiser = torch.optim.AdamW(decay_groups(model, recipe.weight_decay), betas=(0.9, 0.95))
    state = output.with_suffix(".state.safetensors")
    first = _resume(state, recipe, model, optimiser)
    for epoch in range(first, recipe.epochs):
        began = time.perf_counter()
        loss = _epoch(model, optimiser, pixels, mean, std, recipe, epoch)
        log.info("pretrain epoch %d/%d loss %.4f (%.1f s)", epoch + 1, recipe.epochs, loss, time.perf_counter() - began)
        _save(state, recipe, model, optimiser, epoch + 1)
    encoder = {name: tensor.detach() for name, tensor in vit.state_dict().items()}
    metadata = {
        "model": recipe.model,
        "mean": [round(value, 4) for value in mean.tolist()],
        "std": [round(value, 4) for value in std.tolist()],
        "licence": licence,
        "note": f"MAE-pretrained by this project on {len(pixels)} images ({origin}), {recipe.epochs} epochs",
        "recipe": asdict(recipe),
        "sha256": tensor_file.content_hash(encoder),
    }
    tensor_file.write(output, encoder, metadata)
    state.unlink(missing_ok=True)


def load(folder: Path, size: int) -> NDArray[np.uint8]:
    """Return all images below `folder` in path order as [n, size, size, 3]; damaged images are left out."""
    contract = ImageContract(size, "crop", 1.0, "bicubic", (0, 0, 0), (1, 1, 1))
    images = []
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()):
        try:
            images.append(square(image_files.read(path), contract))
        except (DamagedImage, OSError) as error:
            log.warning("%s left out: %s", path, error)
    if not images:
        raise UserError(f"{folder} holds no images", "give a folder with images in any depth of folders")
    return np.stack(images)


def statistics(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation [3] of the channels of uint8 images [n, s, s, 3], on a scale of 0 to 1."""
    counts = torch.stack(
        [torch.bincount(pixels[..., channel].flatten(), minlength=256) for channel in range(3)]
    ).double()
    levels = torch.arange(256, dtype=torch.float64) / 255
    share = counts / counts.sum(1, keepdim=True)
    mean = share @ levels
    std = (share @ levels.square() - mean.square()).sqrt()
    return mean.float(), std.float()


def _epoch(
    model: MaskedAutoencoder,
    optimiser: torch.optim.Optimizer,
    pixels: Tensor,
    mean: Tensor,
    std: Tensor,
    recipe: Recipe,
    epoch: int,
) -> float:
    """Train one epoch and return its mean loss."""
    order = torch.from_numpy(randomness.permutation(len(pixels), "order", recipe.seed, epoch))
    shapes = np.tile(np.array(pixels.shape[1:3]), (len(pixels), 1))
    boxes = augmentation.random_boxes(shapes, recipe.crop_scale, (3 / 4, 4 / 3), True, recipe.seed, epoch)
    steps = max(1, len(pixels) // recipe.batch_size)
    total = torch.zeros(())
    size = model.vit.patch_embed.img_size[0]
    for step in range(steps):
        rows = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
        set_learning_rate(optimiser, learning_rate(recipe, epoch + step / steps))
        cropped = augmentation.crop(list(pixels[rows].numpy()), boxes[rows], size, "bicubic")
        batch = augmentation.normalise(augmentation.planes(cropped), mean, std)
        patches = torch.from_numpy(
            randomness.uniform((len(rows), model.vit.patch_embed.num_patches), "mask", recipe.seed, epoch, step)
        ).argsort(dim=1)
        loss = model(batch, patches)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        total += loss.detach()
    return float(total / steps)


def learning_rate(recipe: Recipe, progress: float) -> float:
    """Return the rate at `progress` epochs; its peak is proportional to the batch size."""
    return warmup_then_cosine(recipe.base_lr * recipe.batch_size / 256, progress, recipe.warmup_epochs, recipe.epochs)


def _save(path: Path, recipe: Recipe, model: torch.nn.Module, optimiser: torch.optim.Optimizer, epoch: int) -> None:
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"optimiser.{name}": tensor for name, tensor in pack_state(optimiser).items()}
    tensor_file.write(path, tensors, {"recipe": asdict(recipe), "epoch": epoch})


def _resume(path: Path, recipe: Recipe, model: torch.nn.Module, optimiser: torch.optim.Optimizer) -> int:
    """Restore the state of a killed run of the same recipe and return the next epoch."""
    if not path.exists():
        return 0
    try:
        tensors, metadata = tensor_file.read(path)
    except UserError as error:
        log.warning("pretraining starts from the beginning: %s", error.cause)
        return 0
    if metadata.get("recipe") != json.loads(json.dumps(asdict(recipe))):
        log.info("%s belongs to another recipe: starting from the beginning", path)
        return 0
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "optimiser": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor
    model.load_state_dict(parts["model"])
    unpack_state(optimiser, parts["optimiser"])
    return int(metadata["epoch"])
