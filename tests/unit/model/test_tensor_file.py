from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from adaptformer.base.errors import UserError
from adaptformer.model import tensor_file


def some() -> dict[str, Tensor]:
    return {"b": torch.arange(6.0).view(2, 3), "a": torch.tensor(3), "c": torch.ones(0, 2, dtype=torch.bfloat16)}


def test_tensors_and_metadata_come_back(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    tensor_file.write(path, some(), {"z": [1, None], "a": {"é": 0.1}})
    tensors, metadata = tensor_file.read(path)
    assert metadata == {"z": [1, None], "a": {"é": 0.1}}
    assert tensor_file.content_hash(tensors) == tensor_file.content_hash(some())


def test_equal_content_gives_equal_bytes_whatever_its_order(tmp_path: Path) -> None:
    metadata = {f"key {i}": i for i in range(20)}
    first, second = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    tensor_file.write(first, some(), metadata)
    tensor_file.write(second, dict(reversed(some().items())), dict(reversed(metadata.items())))
    assert first.read_bytes() == second.read_bytes()


def test_another_programs_file_has_no_metadata_of_ours(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "x.safetensors", {"format": "pt"})
    assert tensor_file.read(tmp_path / "x.safetensors")[1] == {}


def test_strided_tensors_are_written_whole(tmp_path: Path) -> None:
    tensor_file.write(tmp_path / "x.safetensors", {"t": some()["b"].T}, {})
    assert torch.equal(tensor_file.read(tmp_path / "x.safetensors")[0]["t"], some()["b"].T)


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"", lambda b: b"<html>" * 9, lambda b: b[:20]])
def test_a_damaged_file_is_told_in_two_lines(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "x.safetensors"
    tensor_file.write(path, some(), {})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"x\.safetensors is damaged or no checkpoint") as caught:
        tensor_file.read(path)
    assert str(caught.value).count("\n") == 1


def test_the_hash_knows_neither_order_nor_layout() -> None:
    strided = {**some(), "b": some()["b"].T.contiguous().T}
    assert not strided["b"].is_contiguous()
    assert tensor_file.content_hash(dict(reversed(strided.items()))) == tensor_file.content_hash(some())


@pytest.mark.parametrize(
    "change",
    [
        {"b": torch.arange(6.0).view(3, 2)},  # shape
        {"b": torch.arange(6.0).view(2, 3).view(torch.int32)},  # dtype, with the same bytes
        {"b": torch.arange(1.0, 7.0).view(2, 3)},  # values
        {"d": torch.tensor(0)},  # one more
        {"c": torch.ones(0, 3, dtype=torch.bfloat16)},  # nothing but a shape
    ],
)
def test_the_hash_knows_dtype_shape_and_values(change: dict[str, Tensor]) -> None:
    assert tensor_file.content_hash({**some(), **change}) != tensor_file.content_hash(some())


def test_the_hash_knows_names() -> None:
    renamed = {name.replace("b", "bb"): tensor for name, tensor in some().items()}
    assert tensor_file.content_hash(renamed) != tensor_file.content_hash(some())


def test_the_hash_stays_what_it_was() -> None:
    # Adapter files name their backbone by it: a change would orphan all of them.
    table = {"b": torch.tensor([[1.0, 2.0]]), "a": torch.tensor([3], dtype=torch.int64)}
    written = b"a torch.int64 (1,)\n" + struct.pack("<q", 3) + b"b torch.float32 (1, 2)\n" + struct.pack("<2f", 1, 2)
    assert tensor_file.content_hash(table) == hashlib.sha256(written).hexdigest()
