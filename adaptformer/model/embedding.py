"""Features of images from the plain, frozen backbone, by which images and data sets are compared.

Shapes: B images of a batch, N images, s model side, D width of the backbone.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from adaptformer.base import array_file, files, progress
from adaptformer.base.errors import UserError
from adaptformer.config.params import ImageParams
from adaptformer.data import manifest
from adaptformer.data.cache import ImageCache, load_images
from adaptformer.data.eval_images import Images
from adaptformer.data.preprocessing import ImageContract
from adaptformer.model import backbone, backbone_file, inference
from adaptformer.model import device as devices

log = logging.getLogger("adaptformer")

BATCH = 32


class Embedding:
    """The features of images: the mean of the backbone's patch tokens after the last norm.

    They are kept in the folder `stored` by image content, one file for each backbone, image contract and way of
    computing: stored features have the same bits as newly computed ones.
    """

    def __init__(self, path: Path, image: ImageParams | ImageContract, device: torch.device, stored: Path) -> None:
        """Read the card of the backbone at `path`. Raises UserError for a file that is damaged."""
        card = backbone_file.read_card(path)
        geometry = {name: getattr(image, name) for name in ImageParams.model_fields}
        self.contract = ImageContract(**geometry, mean=card.mean, std=card.std)
        self.backbone = card.sha256
        self._path, self._device = path, device
        versions = [importlib.metadata.version(name) for name in ("torch", "timm", "pillow")]
        key = [self.backbone, asdict(self.contract), versions, devices.rounding(device)]
        self._stored = stored / f"{files.sha256_text(files.canonical_json(key))}.safetensors"

    def of_data(self, table: pd.DataFrame, data: Path, cache: ImageCache | None) -> NDArray[np.float32]:
        """Return the features [N, D] of all images of a manifest; each image content is computed once.

        The images come from the cache, or, without one, from their files. After an interruption the next call computes
        the rest. Raises UserError if `data` no longer fits the manifest.
        """
        with self._kept() as known:
            # By split, as training and evaluation load them, so that each finds the other's array in the cache.
            for split in table.loc[~table["sha256"].isin(known), "split"].unique():
                rows = manifest.rows(table, split)
                self._compute(known, rows["sha256"], load_images(rows, data, self.contract, cache), split)
            return np.stack([known[sha256] for sha256 in table["sha256"]])

    def of_images(self, sha256: Sequence[str], images: Images, label: str) -> NDArray[np.float32]:
        """Return the features [N, D] of images as the cache has them, whose files have the hashes `sha256` [N]."""
        with self._kept() as known:
            self._compute(known, pd.Series(sha256), images, label)
            return np.stack([known[one] for one in sha256])

    def _compute(self, known: dict[str, NDArray[np.float32]], sha256: pd.Series, images: Images, label: str) -> None:
        due = np.flatnonzero(~sha256.isin(known) & ~sha256.duplicated())
        batches = [due[start : start + BATCH] for start in range(0, len(due), BATCH)]
        for rows in progress.steps(batches, f"embedding {label}", len(due), "images", len):
            known.update(zip(sha256.iloc[rows], self._features(images[rows]), strict=True))

    @cached_property
    def _features(self) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
        return backbone_features(self._path, self.contract, self._device)

    @contextlib.contextmanager
    def _kept(self) -> Iterator[dict[str, NDArray[np.float32]]]:
        """Yield the stored features by sha256 of the image, and store those that the body adds, even if it fails."""
        known = _read(self._stored)
        before = len(known)
        try:
            yield known
        finally:
            if len(known) > before:
                hashes = np.frombuffer(bytes.fromhex("".join(known)), np.uint8).reshape(-1, 32)
                array_file.write(self._stored, {"sha256": hashes, "features": np.stack(list(known.values()))}, {})


def backbone_features(
    path: Path, contract: ImageContract, device: torch.device
) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """Return a function from images [N, S, S, 3], of the model's side or larger, to features [N, D].

    `path` is a run's backbone.safetensors. Raises UserError for a file that is damaged.
    """
    encoder, card = backbone_file.read(path)
    vit = backbone.build(card.model, contract.size)
    backbone.load_encoder(vit, encoder)
    vit.eval().to(device)

    @torch.no_grad()
    def embed(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        # Always whole batches: with other shapes the sums may have another order, and then an image's features would
        # depend on the number of images beside it.
        rows = np.append(np.arange(len(images)), np.full(-len(images) % BATCH, len(images) - 1))
        batches = inference.prepared(images, rows, contract, batch_size=BATCH, device=device)
        features = [vit.forward_features(batch)[:, vit.num_prefix_tokens :].mean(dim=1) for batch in batches]
        return torch.cat(features)[: len(images)].cpu().numpy()

    return embed


def _read(path: Path) -> dict[str, NDArray[np.float32]]:
    """Return the stored features by sha256 of the image; none if the file is missing or damaged."""
    if not path.exists():
        return {}
    try:
        arrays, _ = array_file.read(path, "")
        return {
            row.tobytes().hex(): features for row, features in zip(arrays["sha256"], arrays["features"], strict=True)
        }
    except (UserError, ValueError, KeyError):
        log.warning("%s is damaged: its images are embedded again", path)
        return {}
