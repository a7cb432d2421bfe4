"""What a run trained, read from its adapter file without torch, which takes seconds to import."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open

from adaptformer.params import AdapterParams, TuningParams

_PLACEMENTS = {
    "parallel": "parallel to the feed-forward layers",
    "sequential": "behind the feed-forward layers",
    "after": "behind the blocks",
}


def card(path: Path) -> dict[str, Any]:
    """Return an adapter file's metadata."""
    with safe_open(path, framework="np") as file:
        content: dict[str, Any] = json.loads(file.metadata()["adaptformer"])
    return content


def trained_parts(adapter: AdapterParams, tuning: TuningParams) -> str:
    """Say in words which parts of the model a run trained, and in which order where not all at once."""
    parts = _parts(adapter)
    if tuning.schedule == "joint":
        return parts
    unit = "slot" if tuning.schedule == "slotwise" else "block"
    rounds = f" in {tuning.rounds} rounds" if tuning.rounds > 1 else ""
    return f"{parts}, {unit} by {unit}{rounds}"


def _parts(adapter: AdapterParams) -> str:
    if adapter.method == "full":
        return "the whole backbone and the head"
    if adapter.method == "linear":
        return "the head alone"
    if adapter.method == "vpt":
        place = "in every block" if adapter.prompt_depth == "deep" else "before the first block"
        return f"{adapter.prompts} visual prompts {place} and the head"
    widths = ", ".join(map(str, adapter.bottlenecks))
    slots = f"{len(adapter.bottlenecks)} slots of widths" if len(adapter.bottlenecks) > 1 else "width"
    return f"adapters ({slots} {widths}, {_PLACEMENTS[adapter.placement]}) and the head"
