"""Checkpoints of strangers: odd tensors, odd tables, odd metadata, damaged bytes."""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile import bytes_of, ends_well
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save
from torch import Tensor

from adaptformer.backbones import fetching, source
from adaptformer.base.errors import UserError
from adaptformer.config.params import BackboneParams
from adaptformer.model import backbone

MODEL = "vit_nano_patch4_32"
SOUND = load_file(Path(source.__file__).with_name(f"{MODEL}.safetensors"))
NAMES = list(SOUND)
CARD = {"mean": [0.5] * 3, "std": [0.5] * 3, "licence": "mit", "note": "drawn"}
ODD: dict[str, Callable[[Tensor], Any]] = {
    "sparse": lambda tensor: tensor.to_sparse(),
    "quantised": lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8),
    "meta": lambda tensor: tensor.to("meta"),
    "complex": lambda tensor: tensor.to(torch.complex64),
    "huge": lambda tensor: tensor.to(torch.float64) * 1e300,
    "nan": lambda tensor: tensor * float("nan"),
    "infinite": lambda tensor: tensor + float("inf"),
    "half": lambda tensor: tensor.to(torch.float16),
    "float8": lambda tensor: tensor.to(torch.float8_e4m3fn),
    "integers": lambda tensor: tensor.to(torch.int64),
    "booleans": lambda tensor: tensor > 0,
    "empty": lambda tensor: tensor[:0],
    "scalar": lambda tensor: tensor.sum(),
    "expanded": lambda tensor: tensor.flatten()[:1].expand(1000, 1000, 1000),
    "transposed": lambda tensor: tensor.T if tensor.ndim == 2 else tensor[None],
    "parameter": torch.nn.Parameter,
    "none": lambda _: None,
    "number": lambda _: 3,
    "list": lambda _: [1, 2],
    "table": lambda tensor: {"weight": tensor},
}
keys = st.sampled_from(["model", "state_dict", "module", "teacher", "", "epoch"]) | st.text(max_size=6)
extras = st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)
values: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@pytest.fixture(autouse=True)
def _built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbone, "build", functools.cache(backbone.build))


def fetched(path: Path) -> None:
    content = {"checkpoint": str(path), "sha256": None, "weights": "ema", "licence": None, "mean": None, "std": None}
    wanted = BackboneParams.model_validate({"model": MODEL, "allowed_licences": ["mit"], **content})
    found = ends_well(lambda: fetching.fetch(wanted))
    if not isinstance(found, UserError):
        tensors, card = found
        assert tensors.keys() == SOUND.keys()
        assert all(tensor.dtype == torch.float32 and tensor.isfinite().all() for tensor in tensors.values())
        assert len(card.mean) == len(card.std) == 3


@st.composite
def tables(draw: st.DrawFn) -> Any:
    """Draw the sound table with odd tensors, renamed, without some, in a wrapper, or among other things."""
    table: dict[Any, Any] = dict(SOUND)
    for name in draw(st.lists(st.sampled_from(NAMES), max_size=2)):
        table[name] = ODD[draw(st.sampled_from(sorted(ODD)))](SOUND[name])
    for name in draw(st.lists(st.sampled_from(NAMES), max_size=1)):
        value = table.pop(name)
        if draw(st.booleans()):
            table[draw(st.text(max_size=10) | st.integers() | st.none() | st.booleans())] = value
    if prefix := draw(st.sampled_from(["", "", "module.", "model.", "x" * 300, "\x1b[2J"])):
        table = {f"{prefix}{name}": value for name, value in table.items()}
    whole: Any = table
    for _ in range(draw(st.integers(0, 2))):
        whole = {draw(keys): whole, **draw(st.dictionaries(keys, extras, max_size=2))}
    return draw(st.sampled_from([whole, whole, [whole], (whole, 1), list(table.values())]))


@given(tables())
def test_any_table_of_torch_is_read_or_refused(folder: Path, table: Any) -> None:
    path = folder / "table.pth"
    torch.save(table, path)
    fetched(path)


def pickled(table: Any, zipped: bool = True) -> bytes:
    out = io.BytesIO()
    torch.save(table, out, _use_new_zipfile_serialization=zipped)
    return out.getvalue()


SMALL = {"model": {name: torch.zeros(2) for name in NAMES[:3]}}
PIECES = [b"\0", b"\xff", b"\xff" * 8, b"\0" * 8, b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"ctorch\n",
          b"cos\nsystem\n", b"R.", b"\x80\x02", b"}", b"{", b"[]", b"null", b'"F64"', b"F32", b"[1,2]", b"-1",
          b"9" * 20]  # fmt: skip


@given(bytes_of([pickled(SMALL), pickled(SMALL, zipped=False)], PIECES), st.sampled_from(["pth", "pt", "bin"]))
def test_any_damaged_file_of_torch_is_read_or_refused(folder: Path, content: bytes, ending: str) -> None:
    path = folder / f"damaged.{ending}"
    path.write_bytes(content)
    fetched(path)


@given(bytes_of([save({"a": torch.zeros(3), "b": torch.ones(2, 2)}, {"x": "y"})], PIECES))
def test_any_damaged_safetensors_file_is_read_or_refused(folder: Path, content: bytes) -> None:
    path = folder / "damaged.safetensors"
    path.write_bytes(content)
    fetched(path)


@given(
    st.dictionaries(st.sampled_from([*CARD, "sha256", "format"]), values, max_size=4),
    st.sampled_from(["adaptformer", "adaptformer", "format"]),
    st.sampled_from([None, "[]", "null", "3", "{", '"x"', "[" * 5000, "{}"]),
)
def test_any_metadata_of_safetensors_are_read_or_refused(
    folder: Path, changed: dict[str, Any], key: str, text: str | None
) -> None:
    path = folder / "metadata.safetensors"
    written = json.dumps({**CARD, **changed}) if text is None else text
    path.write_bytes(save(SOUND, {key: written}))
    fetched(path)
