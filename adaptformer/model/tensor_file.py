"""Tensors with metadata in safetensors files (array_file.py); equal content gives equal bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from adaptformer.base import array_file
from adaptformer.base.errors import UserError

FETCH_AGAIN = "fetch it again from its publisher"
"""The remedy for an unreadable checkpoint; files of this project have remedies of their own."""


def write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write tensors and JSON metadata to a safetensors file, whole or not at all; equal input gives equal bytes."""
    flat = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    with array_file.sealing(path, metadata) as (new_file, text):
        save_file(flat, new_file, text)


def read(path: Path, remedy: str = FETCH_AGAIN, *, data: bool = True) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a safetensors file and its metadata ({} if another program wrote it).

    If `data` is false, the tensors' bytes are not verified: the caller compares their `content_hash`. Raises UserError
    with `remedy` for a file that is altered, damaged, or no safetensors file.
    """
    with array_file.opened(path, remedy, "pt", data=data) as (file, metadata):
        return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118


def content_hash(tensors: dict[str, Tensor]) -> str:
    """Return the hex sha256 over (name, dtype, shape, bytes) of all tensors in name order.

    For translated tensors, the hash depends neither on the format of their file nor on their names in it.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return digest.hexdigest()


def damaged(path: Path, detail: str) -> UserError:
    """Return the error for a checkpoint that cannot be read as tensors."""
    return array_file.damaged(path, detail, FETCH_AGAIN)
