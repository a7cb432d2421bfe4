"""Checkpoints that torch has pickled (`.pth`), read without running their code."""

from __future__ import annotations

import argparse
import pickle
import warnings
from pathlib import Path

import torch
from torch import Tensor

from adaptformer.errors import UserError
from adaptformer.model.tensor_file import damaged


def read_foreign(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a `.pth` file, unpacked from `{"model": …}` as MAE's files have them.

    Only tensors, plain containers and argparse.Namespace (which the official files hold) are unpickled. Raises
    UserError for a file that would run code and for one that is damaged or holds no tensors.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles that are refused below anyway
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own text is not passed on: it suggests loading the file all the same.
        if _may_run_code(path, str(error)):
            raise UserError(
                f"{path} was not opened: it would run code when unpickled",
                "take the file from its publisher, or convert it to safetensors where you trust it",
            ) from error
        raise damaged(path, "not in torch's format") from error
    except Exception as error:  # torch's readers raise almost anything on damaged bytes
        raise damaged(path, str(error) or type(error).__name__) from error
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
    """Tell from torch's message whether it met a function or class that is not allowed.

    Before that it gives up on raw pickles of newer protocols, which their first byte tells from other files.
    """
    if "Unsupported operand" in refusal:
        with path.open("rb") as file:
            return file.read(1) == pickle.PROTO
    return "GLOBAL" in refusal or "Unsupported class" in refusal
