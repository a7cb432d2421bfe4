"""The Markdown page of params.yaml: values and comments of the file, types and ranges of params.py."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode

from adaptformer.base import text_table, yaml_text
from adaptformer.base.errors import without_credentials
from adaptformer.config.params import UNTRACKED_SECTIONS, Params

HEAD = """# Parameters

Every key of `params.yaml`, with its default, its type and range, and its meaning. The defaults are those of the sample.
This page is generated: edit the comments in `params.yaml`, then run `adaptformer params --markdown > docs/params.md`.

Any value can be replaced for one run by its dotted key: `adaptformer train training.epochs=3`
([usage.md](usage.md#parameters-overrides-presets)). A missing or unknown key, another type, or a value out of range is
an error that names the key.
"""
TYPES = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "`true` or `false`",
    "null": "`null`",
}
BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
LONG = 60
"""Characters from which on a list takes several lines."""


def markdown(text: str) -> str:
    """Return the page for the text of a valid params.yaml: one table per section. Addresses lose their passwords."""
    schema = Params.model_json_schema()
    values = yaml_text.parse(text)
    parts = [HEAD, _untracked()]
    for section, about, comments in _sections(text):
        name = schema["properties"][section]["$ref"].rpartition("/")[2]
        kinds = schema["$defs"][name]["properties"]
        rows = [
            (_code(key), _value(values[section][key]), kind(kinds[key]), _cell(comment))
            for key, comment in comments.items()
        ]
        table = text_table.markdown(rows, ("key", "default", "type and range", "meaning"))
        parts.append(f"## {section}\n\n{_sentence(about)}{table}")
    return without_credentials("\n".join(parts))


def kind(schema: Mapping[str, Any]) -> str:
    """Return the type and range of a value in words, by its JSON schema."""
    if "anyOf" in schema:
        return " or ".join(kind(branch) for branch in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(_code(value) for value in schema["enum"])
    if "const" in schema:
        return _code(schema["const"])
    if schema["type"] == "array":
        return _list(schema)
    words = [TYPES[schema["type"]], _range(schema)]
    if "pattern" in schema:
        words.append(f"that matches {_code(schema['pattern'])}")
    if schema.get("minLength"):
        words.append("(not empty)")
    return " ".join(filter(None, words))


def _range(schema: Mapping[str, Any]) -> str:
    if "minimum" in schema and "maximum" in schema:
        return f"from {schema['minimum']:,} to {schema['maximum']:,}"
    return " and ".join(f"{word} {schema[name]:,}" for name, word in BOUNDS.items() if name in schema)


def _list(schema: Mapping[str, Any]) -> str:
    """Return the kind of a list: of a fixed number of items, or of any number within bounds."""
    if "prefixItems" in schema:
        items = dict.fromkeys(kind(item) for item in schema["prefixItems"])
        return f"list of {len(schema['prefixItems'])}; each: {' or '.join(items)}"
    least, most = schema.get("minItems"), schema.get("maxItems")
    length = f" of {least} to {most}" if most else f" of at least {least}" if least else ""
    return f"list{length}; each: {kind(schema['items'])}"


def _sections(text: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Return each section of the file's text with its own comment and the comment of each of its keys."""
    lines = text.splitlines()
    for section, keys in _pairs(yaml.compose(text, Loader=yaml.SafeLoader)):
        yield section.value, _comment(lines, section), {key.value: _comment(lines, key, at) for key, at in _pairs(keys)}


def _pairs(node: Node | None) -> list[tuple[ScalarNode, Node]]:
    """Return the keys of a mapping with their values, each with its place in the text."""
    return list(node.value) if isinstance(node, MappingNode) else []


def _comment(lines: list[str], key: ScalarNode, value: Node | None = None) -> str:
    """Return the comment behind a value, or behind its key if the value has lines of its own."""
    ends = [node.end_mark for node in (key, value) if node is not None and node.start_mark.line == key.start_mark.line]
    line, column = ends[-1].line, ends[-1].column
    parts = [lines[line][column:].partition("#")[2]]
    for further in lines[line + 1 :]:
        if not further.lstrip().startswith("#"):
            break
        parts.append(further.lstrip().removeprefix("#"))
    return " ".join(part.strip() for part in parts if part.strip())


def _untracked() -> str:
    names = [f"`{section}`" for section in UNTRACKED_SECTIONS]
    return (
        f"Sections {', '.join(names[:-1])} and {names[-1]} change no stage's result beyond rounding.\n"
        "A change in another section makes the stages that read it run again.\n"
    )


def _sentence(comment: str) -> str:
    """Return a section's comment as a paragraph, empty if there is none."""
    return f"{comment[0].upper()}{comment[1:]}.\n\n" if comment else ""


def _value(value: Any) -> str:
    """Return a value as a cell; the items of a long list stand on lines of their own."""
    line = yaml_text.line(value)
    if isinstance(value, list) and len(line) > LONG:
        return "<br>".join(_code(yaml_text.line(item)) for item in value)
    return _code(line)


def _code(text: str) -> str:
    """Return text as code within a cell, which a bar would end."""
    return "`" + text.replace("|", "\\|") + "`"


def _cell(comment: str) -> str:
    """Return a comment as a cell: Markdown reads its code and none of its other signs."""
    code = re.compile(r"\\`(.*?)\\`")
    return code.sub(lambda found: _code(re.sub(r"\\(.)", r"\1", found[1])), text_table.escaped(comment))
