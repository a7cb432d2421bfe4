"""Damaged caches and states: what they hold is computed again, or is what was written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from stored_files import CACHES, KINDS

from adaptformer.base import array_file
from adaptformer.base.errors import UserError
from adaptformer.data import stat_cache

TYPES = st.sampled_from(["u1", "i8", "f4", "f8", "?", "i2"])
SHAPES = st.lists(st.integers(0, 4), max_size=4)
ARRAYS: dict[str, tuple[str, ...]] = {
    "embeddings": ("sha256", "features"),
    "facts": ("identities", "numbers", "modes", "sha256", "pictured", "pictures"),
    "features": ("train", "validation"),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, bytes, Any]]:
    found = {}
    for name, kind in KINDS.items():
        path = kind.write(tmp_path_factory.mktemp("cache"))
        found[name] = (path, path.read_bytes(), kind.read(path))
    return found


@st.composite
def damage(draw: st.DrawFn) -> list[tuple[float, int, bytes]]:
    """Up to four changes of a file: where, as a share of it, how many bytes go, and what takes their place."""
    where = st.floats(0, 1) | st.floats(0, 0.02)
    length = st.sampled_from([0, 1, 1, 1, 2, 8, 100, 10**6])
    return [(draw(where), draw(length), draw(st.binary(max_size=9))) for _ in range(draw(st.integers(1, 4)))]


@given(name=st.sampled_from(sorted(CACHES)), changes=damage())
def test_damaged_bytes_change_no_answer(
    name: str, changes: list[tuple[float, int, bytes]], written: dict[str, tuple[Path, bytes, Any]]
) -> None:
    path, whole, expected = written[name]
    content = bytearray(whole)
    for where, length, put in changes:
        start = int(where * len(content))
        content[start : start + length] = put
    path.write_bytes(content)
    found = KINDS[name].read(path)
    assert not found or found == expected


@given(name=st.sampled_from(sorted(CACHES)), content=st.binary(max_size=300))
def test_any_other_bytes_are_nothing(name: str, content: bytes, written: dict[str, tuple[Path, bytes, Any]]) -> None:
    path = written[name][0]
    path.write_bytes(content)
    assert not KINDS[name].read(path)


@st.composite
def arrays(draw: st.DrawFn, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Arrays of any type and shape under some of these names."""
    chosen = draw(st.sets(st.sampled_from(names)))
    return {name: np.ones(draw(SHAPES), draw(TYPES)) for name in chosen}


@given(name=st.sampled_from(sorted(ARRAYS)), data=st.data())
def test_whole_files_of_another_content_are_nothing(
    name: str, data: st.DataObject, written: dict[str, tuple[Path, bytes, Any]]
) -> None:
    path = written[name][0]
    metadata: dict[str, Any] = data.draw(
        st.sampled_from([{}, {"version": stat_cache._version(), "modes": ["L"]}, {"modes": 3}])
    )
    array_file.write(path, data.draw(arrays(ARRAYS[name])), metadata)
    try:
        KINDS[name].read(path)
    except UserError:  # pragma: no cover
        pytest.fail("a cache is made again, and no error")
