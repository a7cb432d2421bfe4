"""Content of an adapter file as lines for a terminal: `adaptformer inspect`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from torch import Tensor

from adaptformer.base import text_table
from adaptformer.base.errors import UserError
from adaptformer.model import adapter_file
from adaptformer.model.parts import parts

NAMES_SHOWN = 10


def text(path: Path) -> str:
    """Return aligned lines on an adapter file: settings, classes, image contract, sizes, trained share, backbone.

    Raises UserError if there is no such file, or if it is of another kind.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist", "name an adapter file, such as artifacts/adapter.safetensors")
    tensors, card = adapter_file.read(path)
    sizes = stored(tensors, card)
    image, backbone = card.image, card.backbone
    rows = [
        ("file", f"{path}, {path.stat().st_size:,} bytes, format {card.format}"),
        *((name, _plain(value)) for name, value in card.adapter.items()),
        ("classes", f"{len(card.classes)}: {_shortened(card.classes)}"),
        ("image", f"{image.size} x {image.size}, {image.resize}, {image.interpolation}, mean {_plain(image.mean)}"),
        ("stored", ", ".join(f"{count:,} of {kind}" for kind, count in sizes.items())),
        ("trained", f"{card.trained:,} parameters, {card.trained_share:.2%} of the backbone's {backbone.parameters:,}"),
        ("training", f"epoch {card.epoch} was chosen; {card.precision}"),
        ("backbone", f"{backbone.model}, sha256 {backbone.sha256}"),
        ("origin", backbone.origin),
        ("licence", backbone.licence),
    ]
    return text_table.aligned(rows)


def stored(tensors: dict[str, Tensor], card: adapter_file.AdapterCard) -> dict[str, int]:
    """Return how many numbers of each kind an adapter file holds: parameters by their part, then statistics."""
    names = {"adapter": "adapters", "prompts": "prompts", "backbone": "the backbone", "head": "the head"}
    belongs = {name: names[part.kind] for name, part in parts(adapter_file.outline(card)).items()}
    sizes = Counter[str]()
    for name, tensor in tensors.items():
        sizes[belongs.get(name, "BatchNorm statistics")] += tensor.numel()
    return {kind: sizes[kind] for kind in (*names.values(), "BatchNorm statistics") if kind in sizes}


def _plain(value: object) -> str:
    return ", ".join(_plain(part) for part in value) if isinstance(value, (list, tuple)) else str(value)


def _shortened(names: tuple[str, ...]) -> str:
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
