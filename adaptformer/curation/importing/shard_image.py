"""An image in a shard, and the conversion of its label to a class name."""

from __future__ import annotations

from typing import Any, NamedTuple

from adaptformer.base.names import one_form, quoted

FORM = (
    "give tar shards with .cls or .json beside each image or a folder for each class, or Parquet with image and label"
)


class Sample(NamedTuple):
    """An image's bytes with its class, and the name and suffix of its file.

    A `fault` is the reason why there are no bytes or no class; `row` is its place in the shard if its name is not
    enough to find it.
    """

    name: str
    ending: str
    label: str
    content: bytes
    fault: str = ""
    row: str = ""


def label_of(value: Any) -> tuple[str, str]:
    """Return the class name of a label, and its fault or ""; strings and integers are valid labels."""
    if value is None or value == "" or (isinstance(value, str) and not value.strip()):
        return "", "no label"
    if isinstance(value, str):
        return one_form(value.strip()), ""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value), ""
    return "", f"the label {quoted(value)} is neither a text nor a whole number"
