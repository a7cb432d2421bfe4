"""Names that params had in earlier versions, for the files that still have them and for people who still write them.

A file that outlives a version (adapter files, ONNX files, MLflow runs) is read with its names replaced by the present
ones; params.yaml and overrides are not, because a person can correct them: there the table gives the hint.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SECTIONS = {"tuning": "training"}
"""Sections by their earlier names."""

KEYS = {
    "adapter.reads": "input",
    "checks.conflicts": "label_conflicts",
    "checks.odd_modes": "rare_modes",
    "checks.repeats": "duplicates",
    "comparison.values": "overrides",
    "data.group": "group_pattern",
    "gate.added_top1": "min_added_top1",
    "gate.class_loss": "max_class_drop",
    "gate.class_support": "min_class_images",
    "gate.drift": "warn_drift",
    "gate.latency_enough": "min_latency_ms",
    "gate.latency_ratio": "max_latency_ratio",
    "gate.log_loss_rise": "max_log_loss_rise",
    "gate.newly_wrong": "max_negative_flips",
    "gate.parity": "parity_tolerance",
    "gate.shared_loss": "max_shared_drop",
    "gate.size_ratio": "max_size_ratio",
    "image.oversampling": "jpeg_min_scale",
    "runtime.activations_gb": "feature_cache_gb",
    "runtime.cache_gb": "image_cache_gb",
    "runtime.devices": "processes",
    "runtime.save_steps": "save_every_steps",
    "sweep.values": "overrides",
    "training.accumulate": "gradient_accumulation",
    "training.balance": "class_balance",
    "training.balance_power": "class_balance_power",
    "training.guard": "rollback_above",
    "training.order": "block_order",
    "training.views": "fixed_crops",
    "training.warmup": "warmup_fraction",
}
"""Present names of keys by their present section and earlier name."""


def present_name(key: str) -> str:
    """Return the present name of a section, or of a key `section.name`; a name that did not change is returned."""
    section, dot, name = key.partition(".")
    section = SECTIONS.get(section, section)
    return f"{section}{dot}{KEYS.get(f'{section}.{name}', name)}"


def with_present_names(section: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a stored section, `section` by its present name, under the present names of their keys.

    If a value is there under both names, both stay, so that the earlier one is refused as unknown.
    """
    present = {key: KEYS.get(f"{section}.{key}", key) for key in content}
    return {key if name in content else name: content[key] for key, name in present.items()}
