"""params.yaml, overrides and sweeps: dates, tags, anchors, digits without end, deep nesting, wrong kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hostile import ends_well, text_of
from hypothesis import given
from hypothesis import strategies as st

from adaptformer import presets
from adaptformer.base import yaml_text
from adaptformer.base.errors import UserError
from adaptformer.config import params
from adaptformer.presets import writing
from adaptformer.sweeps import space

FILE = params.read(Path(__file__).resolve().parents[2] / "params.yaml")
TEXT = FILE.path.read_text()
KEYS = [key for key in params.known_keys() if "." in key]
PIECES = [
    "2026-11-29", "2026-11-29 10:00:00Z", "12:30", "!!timestamp 1", "!!python/object:os.system",
    "!!binary aGk=", "&a",
    "*a", "<<", "<<: *a", "[", "]", "{", "}", "[[[[[[[[[[[[", "? ", ": ", "- ", "|", ">", "'", '"', '"\\ud800"',
    "%YAML", "1" * 5000, "0x" + "f" * 5000, "-", ".inf", "-.inf", ".nan", "1e999", "1e-999", "true", "yes",
    "null", "~", "\0",
    "\x1b[2J", "\udcff", "\u202e", "\ufeff", "\t", "\n", "\r", "---", "...", "#", "0", "-1", "1.5",
    "18446744073709551616",
    "()", "(a+)+$", "(?P<", "a..b", "..", "0.1..0.2 log", "0..0", "é", "=", "@", "`", ",", "[1, 2]", "{a: 1}",
    "{1: 2}",
    "a{99999999999999}", "(" * 5000,
    "[" * 3000, "[{" * 500, "a: " * 300,
]  # fmt: skip
values = (
    st.sampled_from(PIECES)
    | st.text(max_size=30)
    | st.lists(st.sampled_from(PIECES), max_size=4).map("".join)
    | st.lists(st.sampled_from(PIECES), max_size=4).map(lambda parts: f"[{', '.join(parts)}]")
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.dates(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    ).map(str)
)
keys = st.sampled_from(KEYS) | st.sampled_from(KEYS).map(lambda key: key[:-1]) | st.text(max_size=12)


@given(st.lists(st.tuples(keys, values), min_size=1, max_size=3))
def test_any_override_is_taken_or_refused(pairs: list[tuple[str, str]]) -> None:
    def loaded() -> params.Params:
        return FILE.replaced(params.parse_overrides(f"{key}={value}" for key, value in pairs))

    found = ends_well(loaded)
    if isinstance(found, UserError):
        assert len(str(found)) < 3000
    else:
        changed = params.difference(FILE.params, found)
        again = params.parse_overrides(params.as_override(key, value) for key, value in changed.items())
        assert FILE.replaced(again) == found


plain: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(keys, plain, min_size=1, max_size=3))
def test_any_override_that_is_no_text_is_taken_or_refused(overrides: dict[str, Any]) -> None:
    ends_well(lambda: FILE.replaced(overrides))


@given(keys, values)
def test_any_search_of_a_sweep_is_taken_or_refused(key: str, value: str) -> None:
    def parsed() -> None:
        for dimension in space.parse([f"{key}={value}"], FILE, {}):
            assert dimension.ends()

    ends_well(parsed)


@given(text_of(TEXT, PIECES))
def test_any_params_yaml_is_taken_or_refused(folder: Path, text: str) -> None:
    path = folder / "params.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass", newline="")
    found = ends_well(lambda: params.read(path))
    assert isinstance(found, params.ParamsFile | UserError)


@given(st.sampled_from(KEYS), values)
def test_any_value_that_is_put_into_params_yaml_is_read_back(key: str, value: str) -> None:
    def wanted() -> dict[str, Any]:
        return params.difference(FILE.params, FILE.replaced(params.parse_overrides([f"{key}={value}"])))

    found = ends_well(wanted)
    if not isinstance(found, UserError):
        written = params.flat(yaml_text.parse(writing.changed(TEXT, found)))
        assert {name: written[name] for name in found} == found


@given(st.lists(st.sampled_from([*presets.available()]) | st.text(max_size=12), max_size=4))
def test_any_preset_is_taken_or_refused(names: list[str]) -> None:
    ends_well(lambda: FILE.replaced(presets.overlay(names)))
