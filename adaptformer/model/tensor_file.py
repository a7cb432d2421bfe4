"""Tensors with metadata in safetensors files, written so that equal content gives equal bytes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from adaptformer import files
from adaptformer.errors import UserError

METADATA_KEY = "adaptformer"
"""safetensors writes several metadata keys in random order; one key with sorted JSON gives equal bytes."""


def write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write tensors and JSON-able metadata to a safetensors file, whole or not at all; equal input, equal bytes."""
    flat = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    with files.replacing(path) as beside:
        save_file(flat, beside, {METADATA_KEY: files.canonical_json(metadata)})


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a safetensors file and its metadata ({} where another program wrote it).

    Raises UserError for a file that is damaged or no safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, _metadata(file)  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise damaged(path, str(error)) from error


def read_metadata(path: Path) -> dict[str, Any]:
    """Return the metadata of a safetensors file as `read` does, without its tensors; raises as that does."""
    try:
        with safe_open(path, framework="pt") as file:
            return _metadata(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise damaged(path, str(error)) from error


def content_hash(tensors: dict[str, Tensor]) -> str:
    """Return the hex sha256 over (name, dtype, shape, bytes) of all tensors in name order.

    The same weights have the same hash in whatever file and under whatever names they came.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()


def damaged(path: Path, detail: str) -> UserError:
    """Return the error for a file that cannot be read as tensors."""
    reason = " ".join(detail.split())[:120]
    return UserError(f"{path} is damaged or no checkpoint ({reason})", "fetch it again from its publisher")


def _metadata(file: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))
    return found
