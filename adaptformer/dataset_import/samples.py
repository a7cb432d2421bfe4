"""One image of a shard, and the class that its label means."""

from __future__ import annotations

from typing import Any, NamedTuple

from adaptformer.names import one_form, quoted

FORM = (
    "give tar shards with .cls or .json beside each image or a folder for each class, or Parquet with image and label"
)


class Sample(NamedTuple):
    """An image's bytes with its class, and the name and ending that its file gets.

    A `fault` says why there are no bytes or no class; `row` is where it stands, if it is not found by its name.
    """

    name: str
    ending: str
    label: str
    content: bytes
    fault: str = ""
    row: str = ""


def label_of(value: Any) -> tuple[str, str]:
    """Return the class that a label means, and what is wrong with it: texts and whole numbers are classes."""
    if value is None or value == "" or (isinstance(value, str) and not value.strip()):
        return "", "no label"
    if isinstance(value, str):
        return one_form(value.strip()), ""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value), ""
    return "", f"the label {quoted(value)} is neither a text nor a whole number"
