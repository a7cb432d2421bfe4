"""The binary files that are read back, one of each kind, and what their readers make of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mite
import numpy as np
import torch

from adaptformer.base import array_file
from adaptformer.data import stat_cache
from adaptformer.data.image_facts import SIDE, Identity, ImageFacts, ScannedImage
from adaptformer.data.pixel_file import CheckedPhotos
from adaptformer.data.pixel_file import write as write_pixels
from adaptformer.data.stat_cache import StatCache
from adaptformer.evaluation import data_profile
from adaptformer.evaluation.data_profile import Profile
from adaptformer.model import adapter_file, backbone_file, embedding, tensor_file
from adaptformer.training import resume
from adaptformer.training.feature_cache import FeatureCache
from adaptformer.training.history import EpochRow

_RANDOM = np.random.default_rng(0)
_SHAPES = np.array([(4, 6), (1, 1), (8, 3)])
_IMAGES = [_RANDOM.integers(0, 256, (*shape, 3), np.uint8) for shape in _SHAPES.tolist()]
_FEATURES = {"train": torch.arange(24.0).view(2, 3, 4), "validation": torch.ones(1, 3, 4)}
_FINGERPRINT = {"training": {"epochs": 3}}
_STATE = resume.State(
    rows=[EpochRow(1, 1, 1, 0.1, 1.0, 0.3, 1.1, 0.4, 0.5, 0.4, 0)], best=0, tuned={"a": torch.ones(9)},
    best_tuned={"a": torch.zeros(9)}, optimiser={"0.momentum": torch.ones(3)}, start={},
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Kind:
    """How a file is written into a folder, and what reading it gives: None, or {}, if it is to be made again."""

    write: Callable[[Path], Path]
    read: Callable[[Path], Any]


def _adapter(folder: Path) -> Path:
    mite.write_backbone(folder / "backbone.safetensors")
    adapter_file.write(folder / "adapter.safetensors", mite.stirred(mite.model()), mite.adapter_card())
    return folder / "adapter.safetensors"


def _model(path: Path) -> object:
    model, card = adapter_file.load(path.parent / "adapter.safetensors", path.parent / "backbone.safetensors")
    return tensor_file.content_hash(model.state_dict()), card


def _profile(folder: Path) -> Path:
    sizes, channels = np.array([[8, 9], [7, 5]]), _RANDOM.random((2, 6), np.float32)
    found = Profile(sizes, channels, _RANDOM.random((2, 4), np.float32), mite.CONTRACT, "a" * 64)
    data_profile.write(folder / "profile.safetensors", found)
    return folder / "profile.safetensors"


def _profile_back(path: Path) -> object:
    found = data_profile.read(path)
    arrays = (found.sizes, found.channels, found.embeddings)
    return [array.tolist() for array in arrays], found.image, found.backbone


def _features(folder: Path) -> Path:
    FeatureCache(folder / "features.safetensors", 1.0).write(_FEATURES)
    return folder / "features.safetensors"


def _features_back(path: Path) -> object:
    found = FeatureCache(path, 1.0).read({name: tensor.shape for name, tensor in _FEATURES.items()})
    return found and tensor_file.content_hash(found)


def _state(folder: Path) -> Path:
    resume.save(folder / "resume.safetensors", _STATE, _FINGERPRINT)
    return folder / "resume.safetensors"


def _state_back(path: Path) -> object:
    found = resume.load(path, _FINGERPRINT)
    return found and str(dataclasses.asdict(found))


def _embeddings(folder: Path) -> Path:
    hashes = _RANDOM.integers(0, 256, (5, 32), np.uint8)
    features = _RANDOM.random((5, 4), np.float32)
    array_file.write(folder / "embeddings.safetensors", {"sha256": hashes, "features": features}, {})
    return folder / "embeddings.safetensors"


def _embeddings_back(path: Path) -> object:
    return {sha256: found.tolist() for sha256, found in embedding._read(path).items()}


def _facts(folder: Path) -> Path:
    known = StatCache(folder / "facts.safetensors")
    for number, mode in enumerate(("RGB", "L", "RGB")):
        picture = np.full((SIDE, SIDE, 3), number, np.uint8) if number else None
        facts = ImageFacts(8, 9, mode, 10, f"{number:064x}")
        known.remember_own(Identity(number, 10, 20), ScannedImage(facts, picture))
    known.write()
    return folder / "facts.safetensors"


def _facts_back(path: Path) -> object:
    rows = stat_cache._read(path).items()
    return {file: (known.facts, None if known.picture is None else known.picture.tolist()) for file, known in rows}


def _pixels(folder: Path) -> Path:
    write_pixels(folder / "images.npy", _SHAPES, iter(_IMAGES))
    return folder / "images.npy"


def _pixels_back(path: Path) -> object:
    try:
        return [image.tolist() for image in CheckedPhotos(path, _SHAPES, lambda index: _IMAGES[index]).take(range(3))]
    except (ValueError, OSError):
        return None  # the cache writes it anew


ADAPTER = Kind(_adapter, _model)
MODELS = {
    "adapter": ADAPTER,
    "backbone": Kind(lambda folder: _adapter(folder).with_name("backbone.safetensors"), _model),
    "the backbone's card": Kind(
        lambda folder: _adapter(folder).with_name("backbone.safetensors"), backbone_file.read_card
    ),
    "the adapter's card": Kind(_adapter, adapter_file.read_card),
    "profile": Kind(_profile, _profile_back),
}
CACHES = {
    "features": Kind(_features, _features_back),
    "state": Kind(_state, _state_back),
    "embeddings": Kind(_embeddings, _embeddings_back),
    "facts": Kind(_facts, _facts_back),
    "images": Kind(_pixels, _pixels_back),
}
KINDS = MODELS | CACHES
