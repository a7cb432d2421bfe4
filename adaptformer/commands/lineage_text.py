"""The answers of `adaptformer lineage` as text: which models saw an image, and what went into a version."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from adaptformer import text_table
from adaptformer.registry.lineage import Origin, Sightings

MEANING = {"train": "trained on", "validation": "chose the epoch", "test": "only judged"}


def sightings(seen: Sightings, names: Sequence[str]) -> str:
    """Return a table of the versions that hold an image, and what it was to them."""
    lines = [f"image sha256 {seen.sha256}"]
    if seen.found:
        headers = ("model", "version", "aliases", "split", "meaning", "label", "path")
        rows = [
            (one.model, one.version, ", ".join(one.aliases), one.split, MEANING[one.split], one.label, one.path)
            for one in seen.found
        ]
        lines.append(text_table.aligned(rows, headers))
    else:
        lines.append(f"no version of {', '.join(names) or 'any model'} has seen it ({seen.searched} searched)")
    if seen.unknown:
        lines.append(f"unknown, because no manifest is kept: {', '.join(seen.unknown)}")
    return "\n".join(lines)


def origin(found: Origin) -> str:
    """Return what went into a version as aligned lines, and then its moves."""
    lines = [f"{found.model} version {found.version}", textwrap.indent(text_table.aligned(found.facts), "  ")]
    return "\n".join([*lines, *(f"  moved: {sentence}" for sentence in found.moves)])
