"""Presets: overlays of params.yaml. A start sets most; a data set, a backbone and a recipe may follow it, or combine.

Each is a file beside this one that begins with its results and the command. A preset is a named set of overrides: the
values of params.yaml apply first, then those of the presets in their order, then overrides of single keys.
"""

from __future__ import annotations

import difflib
import operator
from collections.abc import Iterable, Mapping
from pathlib import Path

from adaptformer.base import yaml_text
from adaptformer.base.errors import UserError
from adaptformer.config import params
from adaptformer.config.params import Params, ParamsFile, flat

KINDS = ("start", "data", "backbone", "recipe")


def available() -> dict[str, Path]:
    """Return the file of every preset by its name."""
    here, stem = Path(__file__).parent, operator.attrgetter("stem")
    return {path.stem: path for kind in KINDS for path in sorted((here / kind).glob("*.yaml"), key=stem)}


def overlay(names: Iterable[str]) -> dict[str, object]:
    """Return the values of presets by dotted key; if several presets have a key, the last one counts.

    Raises UserError for an unknown name, with the most similar one.
    """
    values: dict[str, object] = {}
    files = available()
    for name in names:
        if name not in files:
            close = difflib.get_close_matches(name, list(files), n=1, cutoff=0.5)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(files)}"
            raise UserError(f"there is no preset {name}", hint)
        values |= flat(yaml_text.parse(files[name].read_text(encoding="utf-8")))
    return values


def resolve(names: Iterable[str] = (), overrides: Mapping[str, object] | None = None) -> tuple[ParamsFile, Params]:
    """Read params.yaml, once, and return it with the params that a run with presets and overrides uses.

    Raises UserError for a fault in the file, a preset or a key that does not exist, and a value that is not allowed.
    """
    file = params.read()
    return file, file.replaced({**overlay(names), **(overrides or {})})
