"""A method in words: the parts that a run trains, and the settings that it reads."""

from __future__ import annotations

from adaptformer.config.params import AdapterParams, TuningParams

_PLACEMENTS = {
    "parallel": "parallel to the feed-forward layers",
    "sequential": "behind the feed-forward layers",
    "after": "behind the blocks",
}
_SETTINGS = {
    "adaptformer": (
        "bottlenecks", "scale", "activation", "reads", "placement", "layernorm", "init", "dropout", "drop_path",
        "pooling",
    ),
    "vpt": ("prompts", "prompt_depth", "pooling"),
    "linear": ("pooling",),
    "full": ("pooling",),
}  # fmt: skip
_TUNING = (
    "schedule", "epochs", "batch_size", "optimiser", "base_lr", "scale_lr", "weight_decay", "warmup", "label_smoothing",
    "balance", "flip", "crop_scale", "drop_path", "selection_metric", "seed",
)  # fmt: skip


def trained_parts(adapter: AdapterParams, tuning: TuningParams) -> str:
    """Return in words which parts of the model a run trained, and in which order if not all at once."""
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


def settings(adapter: AdapterParams, tuning: TuningParams) -> list[tuple[str, object]]:
    """Return the settings that the method and its training read, as (dotted key, value)."""
    own = [(f"adapter.{name}", getattr(adapter, name)) for name in ("method", *_SETTINGS[adapter.method])]
    return own + [(f"tuning.{name}", getattr(tuning, name)) for name in _TUNING]
