"""YAML as this project reads and writes it: texts, numbers, true, false, null, lists, and sections with named keys.

One reader serves params.yaml, presets, overrides and the search of a sweep, so that a value means the same everywhere.
It follows the rules of YAML 1.2, as DVC and ruamel.yaml do: 1e-3 is a number; yes, 12:30 and 2026-11-29 are texts.
Features that these files do not need are refused: a key twice, anchors, tags, deep nesting.
"""

from __future__ import annotations

import math
import re
import sys
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode

LONGEST = 1_000_000
"""Characters of a text at most."""
DEEPEST = 20
"""Levels of nested lists and sections at most."""
_REASON = 300
"""Characters of a reason that are shown; a reason may quote the text."""
_LARGEST = 2**63 - 1
"""The largest whole number, as in JSON readers and databases."""
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z|[-+]?\.(inf|Inf|INF)\Z|\.(nan|NaN|NAN)\Z")
_FLOAT_TAG, _INT_TAG = "tag:yaml.org,2002:float", "tag:yaml.org,2002:int"
_DIGITS = list("-+.0123456789")


def parse(text: str) -> Any:
    """Return the value of a YAML text. Raises ValueError with one line that says what is wrong, and in which line."""
    if len(text) > LONGEST:
        raise ValueError(f"it has more than {LONGEST:,} characters")
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader that takes less
    except yaml.MarkedYAMLError as error:
        place = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ValueError(_short(place + ", ".join(filter(None, (error.context, error.problem))))) from error
    except (yaml.YAMLError, OverflowError, ValueError) as error:
        raise ValueError(_short(" ".join(str(error).split()))) from error


def _short(reason: str) -> str:
    return reason if len(reason) <= _REASON else f"{reason[:_REASON]}…"


def dump(value: object) -> str:
    """Return the YAML text of a value, sections on lines of their own, that `parse` reads back as the same value."""
    return str(yaml.dump(value, Dumper=_Dumper, allow_unicode=True))


def line(value: object) -> str:
    """Return the YAML text of a value as one line."""
    written = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, allow_unicode=True, width=sys.maxsize)
    return str(written).rstrip().removesuffix("...").rstrip()  # YAML marks the end of a document that is a bare scalar


class _Dumper(yaml.SafeDumper):
    """Quotes texts that PyYAML itself would read as texts, but that YAML 1.2 reads as numbers."""


_Dumper.add_implicit_resolver(_FLOAT_TAG, _FLOAT, _DIGITS)
_Dumper.add_implicit_resolver(_INT_TAG, re.compile(r"0o[0-7]+\Z"), ["0"])


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - of PyYAML; filled below
    depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        """Refuse features that are not supported, before any value is made."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise _fault("anchors (&) and aliases (*) are not read here", event)
        if event.tag is not None:
            raise _fault(f"the tag {event.tag} is not read here", event)
        self.depth += 1
        if self.depth > DEEPEST:
            raise _fault(f"lists and sections are nested more than {DEEPEST} deep", event)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a section; each of its keys is a text and occurs once."""
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                raise _fault("a key is no text", key)
            if key.value in seen:
                raise _fault(f"the key {key.value} stands twice", key)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def integer(self, node: ScalarNode) -> int:
        """Return a whole number of at most 64 bits."""
        digits = node.value
        base = {"0x": 16, "0o": 8}.get(digits[:2], 10)
        value = int(digits, base) if len(digits) <= 64 else _LARGEST + 1
        if abs(value) > _LARGEST:
            raise _fault("a whole number has more than 64 bits", node)
        return value

    def number(self, node: ScalarNode) -> float:
        """Return a number with a fraction or an exponent."""
        value = float(re.sub(r"\.(?=inf|nan)", "", node.value.lower()))
        if math.isinf(value) and "inf" not in node.value.lower():
            raise _fault("a number is too large", node)
        return value


def _fault(problem: str, place: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=place.start_mark)


_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"(~|null|Null|NULL|)\Z"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"(true|True|TRUE|false|False|FALSE)\Z"), list("tTfF")
)
_Loader.add_implicit_resolver(_INT_TAG, re.compile(r"([-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z"), _DIGITS)
_Loader.add_implicit_resolver(_FLOAT_TAG, _FLOAT, _DIGITS)
_Loader.add_constructor(_INT_TAG, _Loader.integer)
_Loader.add_constructor(_FLOAT_TAG, _Loader.number)
