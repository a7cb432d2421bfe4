"""A method in words: the parts that a run trains, and the settings that it reads."""

from __future__ import annotations

from adaptformer.config.params import AdapterParams, TrainingParams

_PLACEMENTS = {
    "parallel": "parallel to the feed-forward layers",
    "sequential": "behind the feed-forward layers",
    "after": "behind the blocks",
}
_SETTINGS = {
    "adaptformer": (
        "bottlenecks", "scale", "activation", "input", "placement", "layernorm", "init", "dropout", "drop_path",
        "pooling",
    ),
    "vpt": ("prompts", "prompt_depth", "pooling"),
    "linear": ("pooling",),
    "full": ("pooling",),
}  # fmt: skip
_TRAINING = (
    "schedule", "epochs", "batch_size", "optimiser", "base_lr", "scale_lr", "weight_decay", "warmup_fraction",
    "label_smoothing", "class_balance", "flip", "crop_scale", "drop_path", "selection_metric", "seed",
)  # fmt: skip


def trained_parts(adapter: AdapterParams, training: TrainingParams) -> str:
    """Return in words which parts of the model a run trained, and in which order if not all at once."""
    parts = _parts(adapter)
    if training.schedule == "joint":
        return parts
    unit = "slot" if training.schedule == "slotwise" else "block"
    rounds = f" in {training.rounds} rounds" if training.rounds > 1 else ""
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


def settings(adapter: AdapterParams, training: TrainingParams) -> list[tuple[str, object]]:
    """Return the settings that the method and its training read, as (dotted key, value)."""
    own = [(f"adapter.{name}", getattr(adapter, name)) for name in ("method", *_SETTINGS[adapter.method])]
    return own + [(f"training.{name}", getattr(training, name)) for name in _TRAINING]
