from __future__ import annotations

import argparse
import collections
import datetime
import decimal
import hashlib
import io
import json
import os
import pickle
import random
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from adaptformer.backbones import foreign_file, pickled
from adaptformer.base.errors import UserError


def read(path: Path) -> Any:
    return foreign_file.read_foreign(foreign_file.parts(path)).tree


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
@pytest.mark.parametrize("function", [os.mkdir, eval, shutil.copy])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run_it(
    tmp_path: Path, form: Callable[[object], bytes], place: str, function: Callable[..., object]
) -> None:
    trace = tmp_path / "it ran"
    arguments = {os.mkdir: [str(trace)], shutil.copy: [__file__, str(trace)]}
    runs = Runs(function, *arguments.get(function, [f"__import__('os').mkdir({str(trace)!r})"]))
    table = {"w": torch.ones(2)}
    content = {
        "whole": runs,
        "in args": {"model": table, "args": runs},
        "in a namespace": {"model": table, "args": argparse.Namespace(output=runs)},
    }[place]
    path = tmp_path / "x.pth"
    path.write_bytes(form(content))
    with pytest.raises(UserError, match="not opened") as caught:
        read(path)
    assert not trace.exists()
    assert "run code" in caught.value.cause
    assert "weights_only" not in str(caught.value), "torch's advice to load it all the same is passed on"
    if function is os.mkdir and place == "whole":  # the trap is a real one: whoever unpickles it falls in
        pickle.loads(pickle.dumps(content))
        assert trace.exists()


def test_a_pickle_of_the_oldest_protocol_runs_nothing_either(tmp_path: Path) -> None:
    trace, path = tmp_path / "it ran", tmp_path / "x.pth"
    path.write_bytes(pickle.dumps({"model": Runs(os.mkdir, str(trace))}, protocol=0))
    with pytest.raises(UserError):
        read(path)
    assert not trace.exists()


@pytest.mark.parametrize("content", [b"", b"x", b"PK\x03\x04", b"\x80\x02", b"\x10" + bytes(7) + b"{" * 40])
def test_what_is_no_checkpoint_at_all_is_called_damaged(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(UserError, match="is damaged or no checkpoint") as caught:
        read(tmp_path / "x.pth")
    assert str(caught.value).count("\n") == 1
    assert "weights_only" not in str(caught.value)


def a_tar(_path: Path) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("weights"))
    return file.getvalue()


def a_zip(path: Path) -> bytes:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "nothing")
    return path.read_bytes()


def torchscript(path: Path) -> bytes:
    torch.jit.save(torch.jit.trace(torch.nn.Identity(), torch.zeros(1)), path)
    return path.read_bytes()


def a_bomb(path: Path) -> bytes:
    np.savez_compressed(path.with_suffix(".npz"), w=np.zeros(1_000_000, np.float32))
    return path.with_suffix(".npz").read_bytes()


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS"),
        (b"\n<!DOCTYPE html><html>", "a web page"),
        (b"\x1f\x8b" * 20, "compressed by gzip"),
        (b"\x89HDF\r\n", "an HDF5 file"),
        (b'{"architectures": []}', "JSON, but not an index"),
        (b"{" * 100_000, "damaged"),
        (a_tar, "a tar archive"),
        (a_zip, "a zip file without a checkpoint"),
        (torchscript, "a TorchScript program"),
        (a_bomb, "unpacks to more than 20 times its size"),
    ],
)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_files_of_other_kinds_are_named(tmp_path: Path, content: Any, words: str, suffix: str) -> None:
    made = content if isinstance(content, bytes) else content(tmp_path / "made")
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(made)
    with pytest.raises(UserError, match=words):
        read(path)


BESIDE = {
    "namespace": argparse.Namespace(model="mae_vit_base_patch16", epochs=800),
    "number of numpy": np.float64(71.2),
    "array of numpy": np.zeros(3),
    "path": Path("/x"),
    "pure path": PureWindowsPath("c:/x"),
    "date": datetime.datetime.now(datetime.UTC),
    "defaultdict": collections.defaultdict(list, a=[1]),
    "counter": collections.Counter("aab"),
    "decimal": decimal.Decimal("0.1"),
    "set": {1, 2},
    "dtype": torch.float16,
}


@pytest.mark.parametrize("form", [zipped, legacy])
@pytest.mark.parametrize("beside", BESIDE.values(), ids=BESIDE)
def test_what_stands_beside_weights_in_the_wild_does_not_keep_them_from_being_read(
    tmp_path: Path, form: Callable[[object], bytes], beside: object
) -> None:
    path = tmp_path / "x.anything"
    path.write_bytes(form({"model": {"w": torch.ones(2)}, "beside": beside, "list": [beside]}))
    assert torch.equal(read(path)["model"]["w"], torch.ones(2))


def test_what_stands_for_an_object_keeps_nothing_of_it(tmp_path: Path) -> None:
    torch.save(argparse.Namespace(isfinite=1, weights=torch.ones(2)), tmp_path / "x.pth")
    assert not vars(read(tmp_path / "x.pth"))


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f2", "<f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_pickled_arrays_of_numpy_are_tensors(tmp_path: Path, dtype: str, order: Any) -> None:
    array = np.arange(6).reshape(2, 3).astype(dtype, order=order)
    torch.save({"w": array}, tmp_path / "x.pth")
    tensor = read(tmp_path / "x.pth")["w"].tensor()
    assert tensor.tolist() == array.tolist()


@pytest.mark.parametrize(
    "state", [None, 3, (1, (2,), None, False, b""), (1, (-1,), "f4", False, b"1234"), (1, (2, 2), "f4", False, b"1234")]
)
def test_a_damaged_array_of_numpy_is_no_tensor(state: Any) -> None:
    array = pickled.Array()
    array.__setstate__(state)
    assert array.tensor() is None


def test_tensors_in_several_files_are_read_by_their_index_or_folder(tmp_path: Path) -> None:
    parts = {f"model-0000{i}-of-00002.safetensors": {f"w{i}": torch.full((2,), float(i))} for i in (1, 2)}
    for name, tensors in parts.items():
        safetensors.torch.save_file(tensors, tmp_path / name)
    index = {"weight_map": {key: name for name, tensors in parts.items() for key in tensors}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    for path in (tmp_path, tmp_path / "model.safetensors.index.json"):
        assert {name: float(tensor[0]) for name, tensor in read(path).items()} == {"w1": 1.0, "w2": 2.0}
    found = foreign_file.parts(tmp_path)
    printed = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in found)
    assert foreign_file.sha256(found) == hashlib.sha256(printed.encode()).hexdigest()
    with pytest.raises(UserError, match="one of 2 parts") as caught:
        read(found[0])
    assert str(tmp_path) in caught.value.remedy
    found[1].unlink()
    with pytest.raises(UserError, match=r"names model-00002-of-00002\.safetensors, which is not beside it"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/passwd", 3, None, ["x"], ""])
def test_an_index_names_files_beside_it_only(tmp_path: Path, name: object) -> None:
    (tmp_path / "x.index.json").write_text(json.dumps({"weight_map": {"w": name}}))
    with pytest.raises(UserError, match="names a part"):
        read(tmp_path / "x.index.json")


def test_a_folder_is_asked_for_its_one_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a folder without a checkpoint"):
        read(tmp_path)
    torch.save({"w": torch.ones(1)}, tmp_path / "pytorch_model.bin")
    assert "w" in read(tmp_path)
    safetensors.torch.save_file({"v": torch.ones(1)}, tmp_path / "model.safetensors")
    assert "v" in read(tmp_path)
    safetensors.torch.save_file({"v": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"several checkpoints: model\.safetensors, other\.safetensors"):
        read(tmp_path)


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
            read(path)
        except UserError:
            refused += 1
    assert refused > 75
    assert not recwarn.list
