"""The answers to "which models saw this image" and "what went into this version", for the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from adaptformer import text_table
from adaptformer.params import load
from adaptformer.registry import lineage
from adaptformer.registry.lineage import Origin, Sightings
from adaptformer.tracking import mlflow_store

MEANING = {"train": "trained on", "validation": "chose the epoch", "test": "only judged"}


def show(what: str, model: str | None, everywhere: bool) -> int:
    """Print the answer for an image (a file, or its sha256) or for a version (its number, or an alias)."""
    sha256 = lineage.image(what)
    name = model or load().registry.model
    with mlflow_store.user_errors("nothing was changed"):
        client = mlflow_store.connect()
        if sha256 is None:
            print(origin_text(lineage.origin(client, name, what)))
        else:
            names = lineage.models(client) if everywhere else [name]
            print(sightings_text(lineage.who_saw(client, names, sha256), names))
    return 0


def sightings_text(seen: Sightings, names: Sequence[str]) -> str:
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


def origin_text(origin: Origin) -> str:
    """Return what went into a version as aligned lines, and then its moves."""
    lines = [f"{origin.model} version {origin.version}", textwrap.indent(text_table.aligned(origin.facts), "  ")]
    return "\n".join([*lines, *(f"  moved: {sentence}" for sentence in origin.moves)])
