"""What the plain, frozen backbone makes of images: the measure in which images and data sets are compared.

Shapes: B images of a batch, N images, s model side, D width of the backbone.
"""

from __future__ import annotations

import importlib.metadata
import logging
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from adaptformer import files, progress
from adaptformer.data import manifest
from adaptformer.data.cache import ImageCache, load_images
from adaptformer.data.contract import ImageContract
from adaptformer.model import backbone, inference, tensor_file
from adaptformer.model.backbone_card import BackboneCard
from adaptformer.params import ImageParams

log = logging.getLogger("adaptformer")

_BATCH = 64


def backbone_features(
    path: Path, contract: ImageContract, device: torch.device
) -> tuple[Callable[[NDArray[np.uint8]], NDArray[np.float32]], str]:
    """Return a function from images [B, s, s, 3] to features [B, D], and the backbone's sha256.

    Features are the mean of the patch tokens after the last norm. `path` is a run's backbone.safetensors. Raises
    UserError for a file that is damaged.
    """
    encoder, metadata = tensor_file.read(path)
    card = BackboneCard.from_dict(metadata)
    return _embedder(encoder, card, contract, device), card.sha256


def _embedder(
    encoder: dict[str, Tensor], card: BackboneCard, contract: ImageContract, device: torch.device
) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    vit = backbone.build(card.model, contract.size)
    backbone.load_encoder(vit, encoder)
    vit.eval().to(device)

    @torch.no_grad()
    def embed(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        batches = inference.prepared(images, np.arange(len(images)), contract, batch_size=_BATCH, device=device)
        features = [vit.forward_features(batch)[:, vit.num_prefix_tokens :].mean(dim=1) for batch in batches]
        return torch.cat(features).cpu().numpy()

    return embed


def of_data(
    table: pd.DataFrame,
    data: Path,
    image: ImageParams,
    backbone: Path,
    images: ImageCache | None,
    stored: Path,
    device: torch.device,
) -> NDArray[np.float32]:
    """Return the features [N, D] of all images of a manifest; each image content is computed once.

    The images come from the cache `images`, or, without one, from their files. Features are kept in the folder
    `stored`, one file for each backbone and image contract; what an interruption leaves undone is computed by the next
    call. Raises UserError for a damaged backbone, and when `data` no longer fits the manifest.
    """
    encoder, metadata = tensor_file.read(backbone)
    card = BackboneCard.from_dict(metadata)
    contract = ImageContract(**image.model_dump(), mean=card.mean, std=card.std)
    versions = [importlib.metadata.version(name) for name in ("torch", "timm", "pillow")]
    key = files.sha256_text(files.canonical_json([card.sha256, asdict(contract), versions]))
    path = stored / f"{key}.npz"
    known = _read(path)
    new = ~table["sha256"].isin(known)
    if new.any():
        embed = _embedder(encoder, card, contract, device)
        try:
            # By split, as training and evaluation load them, so that each finds the other's array in the cache.
            for split in table.loc[new, "split"].unique():
                rows = manifest.rows(table, split)
                due = np.flatnonzero(~rows["sha256"].isin(known) & ~rows["sha256"].duplicated())
                prepared = load_images(rows, data, contract, images)
                batches = [due[start : start + _BATCH] for start in range(0, len(due), _BATCH)]
                for chosen in progress.steps(batches, f"embedding {split}", len(due), "images", len):
                    known.update(zip(rows["sha256"].iloc[chosen], embed(prepared[chosen]), strict=True))
        finally:
            if known:
                with files.replacing(path) as beside:
                    np.savez(beside, sha256=np.array(list(known)), features=np.stack(list(known.values())))
    return np.stack([known[sha256] for sha256 in table["sha256"]])


def _read(path: Path) -> dict[str, NDArray[np.float32]]:
    """Return the stored features by sha256 of the image; none where the file is missing or damaged."""
    try:
        with np.load(path) as arrays:
            return dict(zip(arrays["sha256"].tolist(), arrays["features"], strict=True))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        log.warning("%s is damaged: its images are embedded again", path)
        return {}
