"""params.yaml with other values in it, and all its comments."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq

from adaptformer.base import files


def put(path: Path, values: Mapping[str, Any]) -> None:
    """Put `values`, by dotted key, into the file of params at `path`, whole or not at all; its comments stay."""
    files.write_text(path, changed(path.read_text(encoding="utf-8"), values))


def changed(text: str, values: Mapping[str, Any]) -> str:
    """Return the YAML text of params.yaml with `values`, by dotted key, in place of its own; comments stay."""
    yaml = YAML()
    yaml.width = 4096  # no line is ever broken
    yaml.preserve_quotes = True
    yaml.indent(mapping=2, sequence=4, offset=2)  # as params.yaml has it
    # Otherwise null is written as nothing, which looks like an omission.
    yaml.representer.add_representer(
        type(None), lambda into, _: into.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    content = yaml.load(text)
    for dotted, value in values.items():
        section, _, key = dotted.partition(".")
        present = content[section][key]
        if isinstance(value, list) and isinstance(present, CommentedSeq):
            present[:] = value  # a new list would lose the comment, which belongs to the old one
            if not value:  # as a block, an empty list would be written on a line of its own, which is no YAML
                present.fa.set_flow_style()
        elif isinstance(value, list):
            content[section][key] = CommentedSeq(value)
            content[section][key].fa.set_flow_style()
        else:
            content[section][key] = value
    written = io.StringIO()
    yaml.dump(content, written)
    return written.getvalue()
