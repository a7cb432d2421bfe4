"""Adapter files that were damaged, or made by somebody else: a model comes back, or the one error of two lines."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from functools import cache
from pathlib import Path
from typing import Any

import mite
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from stored_files import ADAPTER
from torch import Tensor

from adaptformer.base import array_file
from adaptformer.base.errors import UserError
from adaptformer.cli import inspection
from adaptformer.model import adapter_file, classifier, tensor_file

NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([0, -1, 2**31, 2**63, 10**40, 1e308, 20_000]))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=20)),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
TYPES = st.sampled_from([torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.bool, torch.complex64])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ADAPTER.write(tmp_path_factory.mktemp("adapter"))


@pytest.fixture(scope="module")
def whole(place: Path) -> bytes:
    return place.read_bytes()


def used(path: Path) -> None:
    """Do all that is done with an adapter file."""
    for act in (adapter_file.read_card, inspection.text, ADAPTER.read):
        with contextlib.suppress(UserError):
            act(path)


def tables(content: Any) -> list[tuple[Any, Any]]:
    """Return every place in JSON content, as its container and key."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [found for key, value in list(items) for found in ((content, key), *tables(value))]


@cache
def _card() -> str:
    return json.dumps(dataclasses.asdict(mite.adapter_card()))


@cache
def _tensors() -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in classifier.trainable_state_dict(mite.model()).items()}


@st.composite
def cards(draw: st.DrawFn) -> Any:
    """Cards in which up to three values are others or gone, and cards that are none."""
    card = json.loads(_card())
    for _ in range(draw(st.integers(1, 3))):
        if places := tables(card):
            container, key = draw(st.sampled_from(places))
            change = draw(st.sampled_from(["other", "gone", "more"]))
            if change == "gone":
                del container[key]
            elif change == "more" and isinstance(container, dict):
                container[draw(st.text(max_size=8))] = draw(VALUES)
            else:
                container[key] = draw(VALUES)
    return card if draw(st.integers(0, 9)) else draw(VALUES)


@st.composite
def tensors(draw: st.DrawFn) -> dict[str, Tensor]:
    """The tensors of an adapter file, of which one may be missing, of another type or another shape."""
    found = dict(_tensors())
    name = draw(st.sampled_from(sorted(found)))
    change = draw(st.sampled_from(["none", "gone", "type", "shape", "more"]))
    if change == "gone":
        del found[name]
    elif change == "type":
        found[name] = found[name].to(draw(TYPES))
    elif change == "shape":
        found[name] = torch.zeros(draw(st.lists(st.integers(0, 4), max_size=4)))
    elif change == "more":
        found[draw(st.text(min_size=1, max_size=8))] = torch.zeros(2)
    return found


@given(card=cards(), table=tensors(), sealed=st.booleans())
def test_a_stranger_s_card_is_parsed_and_never_trusted(
    card: Any, table: dict[str, Tensor], sealed: bool, place: Path
) -> None:
    path = place.with_name("adapter.safetensors")
    try:
        if sealed and isinstance(card, dict):
            tensor_file.write(path, table, card)
        else:
            save_file(table, path, {array_file.KEY: json.dumps(card)})
    except ValueError:  # text that no file can hold
        return
    used(path)


@given(data=st.data())
def test_damaged_bytes_are_refused(data: st.DataObject, place: Path, whole: bytes) -> None:
    path, content = place.with_name("adapter.safetensors"), bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        header = data.draw(st.booleans())
        start = data.draw(st.integers(0, min(len(content), 3000) if header else len(content)))
        length = data.draw(st.sampled_from([0, 1, 1, 1, 2, 8, 100, len(whole)]))
        content[start : start + length] = data.draw(st.binary(max_size=9))
    path.write_bytes(content)
    used(path)
    if bytes(content) != whole:
        with pytest.raises(UserError):
            ADAPTER.read(path)
