from __future__ import annotations

import argparse
import hashlib
import io
import os
import pickle
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from adaptformer.errors import UserError
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


@pytest.mark.parametrize("key", ["model", "state_dict", None])
def test_foreign_tables_are_unpacked(tmp_path: Path, key: str | None) -> None:
    args = argparse.Namespace(model="mae_vit_base_patch16", epochs=800)
    content = {key: {"w": torch.ones(2)}, "args": args, "epoch": 799} if key else {"w": torch.ones(2)}
    torch.save(content, tmp_path / "x.pth")
    assert torch.equal(tensor_file.read_foreign(tmp_path / "x.pth")["w"], torch.ones(2))


class Runs:
    """An object that runs a function when it is unpickled."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def zipped(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def legacy(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


@pytest.mark.parametrize("form", [zipped, legacy, pickle.dumps])
@pytest.mark.parametrize("place", ["whole", "in args", "in a namespace"])
@pytest.mark.parametrize("function", [os.mkdir, eval, Path])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run_it(
    tmp_path: Path, form: Callable[[object], bytes], place: str, function: Callable[..., object]
) -> None:
    trace = tmp_path / "it ran"
    runs = Runs(function, f"__import__('os').mkdir({str(trace)!r})" if function is eval else str(trace))
    table = {"w": torch.ones(2)}
    content = {
        "whole": runs,
        "in args": {"model": table, "args": runs},
        "in a namespace": {"model": table, "args": argparse.Namespace(output=runs)},
    }[place]
    path = tmp_path / "x.pth"
    path.write_bytes(form(content))
    with pytest.raises(UserError, match="not opened") as caught:
        tensor_file.read_foreign(path)
    assert not trace.exists()
    assert "run code" in caught.value.cause
    assert "weights_only" not in str(caught.value), "torch's advice to load it all the same is passed on"
    if function is os.mkdir and place == "whole":  # the trap is a real one: whoever unpickles it falls in
        pickle.loads(pickle.dumps(content))
        assert trace.exists()


def test_so_is_one_in_the_oldest_protocol(tmp_path: Path) -> None:
    trace, path = tmp_path / "it ran", tmp_path / "x.pth"
    path.write_bytes(pickle.dumps({"model": Runs(os.mkdir, str(trace))}, protocol=0))
    with pytest.raises(UserError):
        tensor_file.read_foreign(path)
    assert not trace.exists()


@pytest.mark.parametrize("content", [[torch.ones(2)], {}, {"model": {}}, {"w": 3}, torch.ones(2), {1: torch.ones(2)}])
def test_what_holds_no_table_of_tensors_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(UserError, match="holds no table of tensors"):
        tensor_file.read_foreign(tmp_path / "x.pth")


@pytest.mark.parametrize("content", [b"", b"x", b"<html>404</html>", b"PK\x03\x04", b"\x80\x02", b"ustar" * 200])
def test_what_is_no_checkpoint_at_all_is_called_damaged(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(UserError, match="is damaged or no checkpoint") as caught:
        tensor_file.read_foreign(tmp_path / "x.pth")
    assert str(caught.value).count("\n") == 1
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize("form", [zipped, legacy])
def test_damage_anywhere_ends_in_the_one_user_facing_error(
    tmp_path: Path, form: Callable[[object], bytes], recwarn: pytest.WarningsRecorder
) -> None:
    sound = form({"model": {"w": torch.ones(3)}, "args": argparse.Namespace(a=1)})
    numbers = random.Random(0)
    path, refused = tmp_path / "x.pth", 0
    for attempt in range(150):
        content = bytearray(sound)
        if attempt % 2:
            del content[numbers.randrange(len(content)) :]
        for _ in range(3):
            if content:
                content[numbers.randrange(len(content))] = numbers.randrange(256)
        path.write_bytes(content)
        try:
            tensor_file.read_foreign(path)
        except UserError:
            refused += 1
    assert refused > 75
    assert not recwarn.list
