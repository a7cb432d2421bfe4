"""Names of runs: the registered model, the commit, and the values that differ from the commit's params.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adaptformer.base import yaml_text
from adaptformer.base.errors import without_credentials
from adaptformer.config import params as config
from adaptformer.config.params import Params
from adaptformer.tracking import git

LONGEST = 100
"""Characters of a name's values at most: MLflow and Prefect list a run in one line."""
ABOUT_THE_DATA = {"data.name", "data.date"}
"""Values that describe the images but change no result."""


def of(params: Params, label: str = "") -> str:
    """Return the name of a run that begins now: model and commit, then `label`, or else the values that differ.

    These are the values that decide results and are not those of params.yaml in the commit, whether an override or an
    edit changed them. Without a commit, or if its params.yaml cannot be read, no values are named.
    """
    named = label or _changes(params)
    return without_credentials(f"{params.registry.model}-{git.short_commit()}{' ' if named else ''}{named}")


def _changes(params: Params) -> str:
    committed = _committed()
    values = [
        config.as_override(key, value)
        for key, value in config.flat(config.tracked(params)).items()
        if key in committed and committed[key] != value and key not in ABOUT_THE_DATA
    ]
    shown: list[str] = []
    for value in values:
        if sum(map(len, shown)) + len(value) > LONGEST:
            break
        shown.append(value)
    more = len(values) - len(shown)
    if more and not shown:
        return "with other values"
    rest = [f"and {more} more"] if more else []
    return " ".join([*shown, *rest])


def _committed() -> Mapping[str, Any]:
    """Return the values of the commit's params.yaml by dotted key, none if it cannot be read."""
    try:
        content = yaml_text.parse(git.committed("params.yaml") or "")
    except ValueError:
        return {}
    return config.flat(content) if isinstance(content, Mapping) else {}
