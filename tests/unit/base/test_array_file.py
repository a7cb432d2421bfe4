"""Files that were altered, by a bit or by hand, change no answer."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import mite
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import save_file
from stored_files import ADAPTER, KINDS, MODELS

from adaptformer.base import array_file
from adaptformer.base.errors import UserError
from adaptformer.model import adapter_file, backbone_file, tensor_file


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_no_flipped_bit_changes_an_answer(kind: Any, tmp_path: Path) -> None:
    path = kind.write(tmp_path)
    whole, expected = path.read_bytes(), kind.read(path)
    numbers, refused = np.random.default_rng(1), 0
    everywhere = numbers.choice(8 * len(whole), 40, replace=False)
    for bit in [*everywhere.tolist(), *numbers.choice(8 * min(len(whole), 900), 24, replace=False).tolist()]:
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        try:
            found = kind.read(path)
        except UserError:
            found = None
        refused += not found
        assert not found or found == expected, f"bit {bit}"
    assert refused or path.suffix == ".npy", "images are decoded again, all others are refused"


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("adapter", "adaptformer train"), ("backbone", "adaptformer fetch"), ("profile", "adaptformer evaluate")],
)
def test_the_remedy_is_that_of_the_file(name: str, remedy: str, tmp_path: Path) -> None:
    path = MODELS[name].write(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 64]))
    with pytest.raises(UserError, match=r"\.safetensors is not what was written") as caught:
        MODELS[name].read(path)
    assert remedy in caught.value.remedy


def rewritten(path: Path, metadata: dict[str, Any]) -> None:
    """Write a file's tensors with this metadata and no checksums, as versions of before did."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    save_file(tensors, path, {array_file.KEY: json.dumps(metadata)})


@pytest.mark.parametrize("name", ["adapter", "backbone", "the backbone's card", "profile"])
def test_files_of_before_have_no_checksums_and_are_read(name: str, tmp_path: Path) -> None:
    path = MODELS[name].write(tmp_path)
    expected = MODELS[name].read(path)
    rewritten(path, tensor_file.read(path)[1])
    assert MODELS[name].read(path) == expected


@pytest.mark.parametrize("name", ["adapter", "backbone", "the backbone's card", "profile"])
def test_a_file_that_has_lost_its_checksums_is_not_taken_for_one_of_before(name: str, tmp_path: Path) -> None:
    path = MODELS[name].write(tmp_path)
    with safe_open(path, "pt") as file:
        content = json.loads(file.metadata()[array_file.KEY])
    for left in (content["metadata"], {"metadata": content["metadata"]}, {**content, "more": 1}):
        rewritten(path, left)
        with pytest.raises(UserError):
            MODELS[name].read(path)


def test_a_backbone_of_before_is_known_by_the_hash_of_its_tensors(tmp_path: Path) -> None:
    path = mite.write_backbone(tmp_path / "backbone.safetensors")
    rewritten(path, dataclasses.asdict(mite.backbone_card()))
    content = path.read_bytes()
    path.write_bytes(content[:-2] + bytes([content[-2] ^ 64]) + content[-1:])
    with pytest.raises(UserError, match="is not what was written"):
        backbone_file.read(path)


def test_metadata_are_read_without_the_arrays(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    array_file.write(path, {"a": np.arange(1000)}, {"b": ["ä", None]})
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"x")
    assert array_file.read_metadata(path, "x") == {"b": ["ä", None]}
    with pytest.raises(UserError, match="is not what was written"):
        array_file.read(path, "x")


@pytest.mark.parametrize("metadata", ["[]", "3", "null", "{", "[" * 100_000, '{"a": ' + "9" * 5000 + "}"])
def test_metadata_that_are_no_table_are_told_in_two_lines(metadata: str, tmp_path: Path) -> None:
    path = ADAPTER.write(tmp_path)
    tensors = {name: tensor.clone() for name, tensor in tensor_file.read(path)[0].items()}
    save_file(tensors, path, {array_file.KEY: metadata})
    with pytest.raises(UserError, match="is damaged or no checkpoint"):
        adapter_file.read_card(path)


def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    for path in (tmp_path, Path("/dev/zero")):
        with pytest.raises(UserError, match="not a regular file"):
            array_file.read(path, "x")


def test_a_full_disk_is_told_in_two_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors import SafetensorError

    def full(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(array_file, "save_file", full)
    with pytest.raises(UserError, match=r"cannot write .*a\.safetensors: .*No space left"):
        array_file.write(tmp_path / "a.safetensors", {"a": np.ones(3)}, {})
    assert not list(tmp_path.iterdir())
