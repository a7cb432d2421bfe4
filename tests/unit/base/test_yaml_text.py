from __future__ import annotations

from pathlib import Path

import pytest

from adaptformer.base import yaml_text
from adaptformer.config import params
from adaptformer.presets import writing

FILE = Path(__file__).resolve().parents[3] / "params.yaml"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("-.5E3", -500.0),
        ("010", 10),
        ("0x1f", 31),
        ("0o17", 15),
        ("-.inf", float("-inf")),
        ("", None),
        ("~", None),
        ("True", True),
        ("yes", "yes"),
        ("12:30", "12:30"),
        ("2026-11-29", "2026-11-29"),
        ("=", "="),
        ("<<: 1", {"<<": 1}),
        ("1_000", "1_000"),
        ("[1, a, null]", [1, "a", None]),
        (str(2**63 - 1), 2**63 - 1),
    ],
)
def test_values_are_those_of_yaml_1_2(text: str, value: object) -> None:
    found = yaml_text.parse(text)
    assert (found, type(found)) == (value, type(value))


VALUES = [
    "1e-3", "1e400", "yes", "no", "0o17", "0x1", "010", "12:30", "2026-11-29", "null", "~", "", "true", "a: b", "# c",
    "=cmd", "'", "- ", "...", "x ...", "é😀", "1_0", ".inf", "1.", "a\nb", 3, -1, 0.1, 1e-9, 1e300, True, False, None,
    [16, 8], ["a, b", "c"], [], float("inf"),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_what_is_written_is_read_back(value: object) -> None:
    for text in (yaml_text.line(value), yaml_text.dump(value)):
        assert repr(yaml_text.parse(text)) == repr(value)
    assert repr(yaml_text.parse(yaml_text.dump({"a": {"b": value}}))) == repr({"a": {"b": value}})
    assert repr(params.parse_overrides([params.as_override("a.b", value)])) == repr({"a.b": value})


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_what_params_write_puts_into_the_file_is_read_back(value: object) -> None:
    written = yaml_text.parse(writing.changed(FILE.read_text(), {"data.name": value}))
    assert repr(written["data"]["name"]) == repr(value)


def test_an_error_names_its_line() -> None:
    with pytest.raises(ValueError, match=r"^line 3: the key b stands twice$"):
        yaml_text.parse("a: 1\nb: 2\nb: 3\n")


def test_a_text_without_end_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 1,000,000 characters"):
        yaml_text.parse("#" * 1_000_001)
