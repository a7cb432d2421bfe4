"""Reader of checkpoints in all common file formats, recognised by content, not by suffix."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from adaptformer.backbones import pickled
from adaptformer.backbones.address import one_line
from adaptformer.base import files
from adaptformer.base.errors import UserError
from adaptformer.model import tensor_file
from adaptformer.model.tensor_file import damaged

_LARGEST_EXPANSION = 20
"""The largest accepted ratio of a zip file's unpacked size to its own: weights hardly shrink, a zip bomb does."""

_LARGEST_HEADER = 100_000_000
"""The largest size of a safetensors header, in bytes, that the format allows."""

_FOREIGN = (  # beginning of the file, what it is, what to do
    (b"version https://git-lfs", "a pointer of Git LFS", "run `git lfs pull` where it comes from"),
    (b"\x89HDF", "an HDF5 file", "take the publisher's PyTorch or safetensors file"),
    (b"GGUF", "a GGUF file", "take the publisher's PyTorch or safetensors file"),
    (b"\x1f\x8b", "compressed by gzip", "unpack it with gunzip"),
    (b"<", "a web page", "download the file itself: open the address in a browser and look"),
)


class Content(NamedTuple):
    """The content of a checkpoint: nested containers of tensors, and the metadata of a safetensors file."""

    tree: Any
    metadata: Any = {}  # noqa: RUF012 - never changed


def parts(path: Path) -> list[Path]:
    """Return the files of a checkpoint: itself, or the shards of a folder or of an index, sorted by name.

    Raises UserError for a folder with no checkpoint or several, for an index that is damaged or names missing files or
    files in other folders, and for a single shard of several.
    """
    if path.is_dir():
        path = _in_folder(path)
    if shard := re.search(r"-\d{5}-of-(\d{5})\.", path.name):
        if int(shard[1]) > 1:
            cause = f"{path} is one of {int(shard[1])} parts of a checkpoint"
            raise UserError(cause, f"set backbone.checkpoint to the folder with all of them: {path.parent}")
    elif (index := _index(path)) is not None:
        shards = sorted({path.with_name(name) for name in index.values()})
        if missing := [printable(shard.name) for shard in shards if not shard.is_file()]:
            cause = f"{path} names {missing[0]}, which is not beside it"
            raise UserError(cause, f"bring all {len(shards)} parts of the checkpoint into one folder")
        return shards
    return [path]


def sha256(paths: list[Path]) -> str:
    """Return the hex sha256 of a checkpoint's file; for several files, that of the output of `sha256sum` for them."""
    if len(paths) == 1:
        return files.sha256_file(paths[0])
    return files.sha256_text("".join(f"{files.sha256_file(path)}  {path.name}\n" for path in paths))


def read_foreign(paths: list[Path]) -> Content:
    """Return the content of a checkpoint's files, without running code.

    Raises UserError for a file that would run code, is damaged, or is of another kind, which the message names.
    """
    if len(paths) == 1:
        return _read(paths[0])
    tree: dict[str, Any] = {}
    for path in paths:
        content = _read(path).tree
        if not isinstance(content, dict):
            raise damaged(path, "holds no table of tensors")
        if twice := sorted(tree.keys() & content.keys(), key=str):
            raise UserError(f"two parts of the checkpoint hold {printable(twice[0])}", "fetch all parts again")
        tree |= content
    return Content(tree)


def printable(name: object) -> str:
    """Return a name from a file as one short line that is safe to print in a terminal."""
    text = "".join(letter if letter.isprintable() else "?" for letter in str(name))
    return text if len(text) <= 80 else f"{text[:79]}…"


def _in_folder(folder: Path) -> Path:
    """Return the index of a folder's shards, or its only checkpoint."""
    indices = sorted(folder.glob("*.index.json"))
    single = [path for name in ("*.safetensors", "*.bin", "*.pth", "*.pt", "*.npz") for path in folder.glob(name)]
    # The same weights as safetensors and as a pickle are one checkpoint in two forms.
    for form in ("safetensors", ""):
        for choice in (indices, sorted(single)):
            if len(fitting := [path for path in choice if form in path.name]) == 1:
                return fitting[0]
    if not indices and not single:
        raise UserError(f"backbone.checkpoint = {folder} is a folder without a checkpoint", "give the file itself")
    names = ", ".join(path.name for path in (indices or sorted(single))[:3])
    raise UserError(f"the folder {folder} holds several checkpoints: {names}", "set backbone.checkpoint to one of them")


def _index(path: Path) -> dict[str, str] | None:
    """Return the mapping from tensors to files in an index of shards, None for a file that is not an index."""
    with path.open("rb") as file:
        if not file.read(16).lstrip().startswith(b"{"):
            return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise damaged(path, one_line(error)) from error
    table = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(table, dict) or not table:
        raise UserError(f"{path} is JSON, but not an index of a checkpoint's parts", "give the file with the weights")
    if strange := [name for name in table.values() if not isinstance(name, str) or not name or Path(name).name != name]:
        raise damaged(path, f"it names a part {printable(strange[0])}")
    return table


def _read(path: Path) -> Content:
    with path.open("rb") as file:
        start = file.read(512)
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= _LARGEST_HEADER:
        return _safetensors(path)
    if start.startswith(b"PK\x03\x04"):
        return Content(_zipped(path))
    for magic, kind, remedy in _FOREIGN:
        if start.lstrip().startswith(magic):
            raise UserError(f"{path} is {kind}, not a checkpoint", remedy)
    if start[257:262] == b"ustar":
        raise UserError(f"{path} is a tar archive", "unpack it and give the file with the weights")
    return Content(pickled.read(path))


def _safetensors(path: Path) -> Content:
    try:
        return Content(*tensor_file.read(path))
    except UserError:
        raise
    except Exception as error:  # dtypes that torch lacks, deep JSON
        raise damaged(path, one_line(error)) from error


def _zipped(path: Path) -> Any:
    """Return the content of a zip file, which was written by `torch.save` or is an .npz file of NumPy."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except Exception as error:
        raise damaged(path, f"a zip file that is cut off or altered: {one_line(error)}") from error
    if sum(member.file_size for member in members) > _LARGEST_EXPANSION * path.stat().st_size:
        raise damaged(path, f"it unpacks to more than {_LARGEST_EXPANSION} times its size")
    names = {member.filename.rpartition("/")[2] for member in members}
    if "constants.pkl" in names:
        raise UserError(
            f"{path} is a TorchScript program, not a table of tensors",
            "load it with torch.jit.load and save its state_dict(), or take the publisher's weights",
        )
    if "data.pkl" in names:
        return pickled.read(path)
    if members and all(member.filename.endswith(".npy") for member in members):
        return _arrays(path)
    raise UserError(f"{path} is a zip file without a checkpoint", "unpack it and give the file with the weights")


def _arrays(path: Path) -> dict[str, Any]:
    """Return the numeric arrays of an .npz file as tensors."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            loaded = {name: arrays[name] for name in arrays.files}
        return {
            name: torch.from_numpy(array.astype(array.dtype.newbyteorder("=")))
            for name, array in loaded.items()
            if array.dtype.kind in "fiu"
        }
    except Exception as error:  # NumPy's reader raises almost anything on damaged bytes
        raise damaged(path, one_line(error)) from error
