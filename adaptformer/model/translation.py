"""The only place that knows foreign key names: out come timm's, or an error that lists keys."""

from __future__ import annotations

import torch
from torch import Tensor

from adaptformer.errors import UserError

_PREFIXES = ("module.", "encoder.")
_NOT_ENCODER = ("decoder_", "mask_token", "head.", "fc_norm.")
"""Parts of full MAE files and of fine-tuned classifiers that are no part of the encoder."""


def translate(tensors: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return fp32 encoder tensors with exactly the names and shapes of `expected`, a VisionTransformer's state.

    Decoder and head are dropped. Raises UserError that lists the tensors that are missing, unknown or of another shape.
    """
    translated: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        for prefix in _PREFIXES:
            name = name.removeprefix(prefix)  # noqa: PLW2901
        if name.startswith(_NOT_ENCODER):
            continue
        if name in translated:
            raise UserError(f"the checkpoint fills {name} twice", "use the publisher's original file")
        translated[name] = tensor
    _compare("lacks", sorted(expected.keys() - translated.keys()))
    _compare("has unknown", sorted(translated.keys() - expected.keys()))
    wrong = [
        f"{name} {tuple(translated[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if translated[name].shape != tensor.shape
    ]
    _compare("has another shape for", wrong)
    bad = [name for name, tensor in translated.items() if not tensor.isfinite().all()]
    _compare("has numbers that are not finite in", bad)
    return {name: translated[name].to(torch.float32).contiguous() for name in expected}


def _compare(what: str, names: list[str]) -> None:
    if names:
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        raise UserError(
            f"the checkpoint {what} {shown}",
            "check that backbone.model names the architecture that the checkpoint was made for",
        )
