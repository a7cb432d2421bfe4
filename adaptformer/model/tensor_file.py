"""Reading and writing tensors: safetensors for our own files, the weights-only loader for foreign ones."""

from __future__ import annotations

import argparse
import hashlib
import json
import pickle
import warnings
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
            metadata = (file.metadata() or {}).get(METADATA_KEY, "{}")
            return {name: file.get_tensor(name) for name in file.keys()}, json.loads(metadata)  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error


def read_foreign(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a `.pth` file, unpacked from `{"model": …}` as MAE's files have them.

    Only tensors, plain containers and argparse.Namespace (which the official files hold) are unpickled. Raises
    UserError for a file that would run code and for one that is damaged or holds no tensors.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on pickles that are refused below anyway
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own text, which invites to load the file all the same, is not passed on.
        if _may_run_code(path, str(error)):
            raise UserError(
                f"{path} was not opened: it would run code when unpickled",
                "take the file from its publisher, or convert it to safetensors where you trust it",
            ) from error
        raise _damaged(path, "not in torch's format") from error
    except Exception as error:  # torch's readers raise almost anything on damaged bytes
        raise _damaged(path, str(error) or type(error).__name__) from error
    for key in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if (
        not isinstance(content, dict)
        or not content
        or not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items())
    ):
        raise UserError(
            f"{path} holds no table of tensors", "use a checkpoint in the official MAE layout, or safetensors"
        )
    return content


def _may_run_code(path: Path, refusal: str) -> bool:
    """Tell from torch's words whether it met a function or class that is not allowed.

    Raw pickles of newer protocols it gives up on before that: their first byte tells them from other files.
    """
    if "Unsupported operand" in refusal:
        with path.open("rb") as file:
            return file.read(1) == pickle.PROTO
    return "GLOBAL" in refusal or "Unsupported class" in refusal


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


def _damaged(path: Path, detail: str) -> UserError:
    reason = " ".join(detail.split())[:120]
    return UserError(f"{path} is damaged or no checkpoint ({reason})", "fetch it again from its publisher")
