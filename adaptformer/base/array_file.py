"""Arrays with metadata and checksums in safetensors files, without torch.

The metadata of a file are one JSON text, because safetensors writes several keys in random order, and equal content
must give equal bytes. The text begins with two checksums: `data`, the sha256 of all arrays' bytes, and `header`, the
sha256 of all bytes before them (names, types, shapes, metadata, `data`; its own digits as zeros). So metadata can be
verified without reading the arrays. Files of earlier versions have metadata without checksums, files of other programs
have no metadata of ours; both are read unverified.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from adaptformer.base import files, integrity
from adaptformer.base.errors import UserError

KEY = "adaptformer"
"""The key of our metadata among those of safetensors."""
FORMAT = 2
"""Is in the metadata of every file with checksums, so that one that lost them is not taken for an older file."""
_FORMAT = "file_format"
_BLANK = 64 * "0"
_LARGEST_HEADER = 100_000_000
"""The limit of safetensors itself."""


def write(path: Path, arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any]) -> None:
    """Write arrays and JSON-able metadata to a safetensors file, whole or not at all; equal input gives equal bytes."""
    flat = {name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}
    with sealing(path, metadata) as (new_file, text):
        save_file(flat, new_file, text)


def read(path: Path, remedy: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the arrays of a file and its metadata, which are {} if another program wrote it.

    Raises UserError with `remedy` for a file that was altered, is damaged, or is no safetensors file.
    """
    with opened(path, remedy, "np") as (file, metadata):
        return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118


def read_metadata(path: Path, remedy: str) -> dict[str, Any]:
    """Return the metadata of a file as `read` does; they, names and shapes are verified, the arrays' bytes are not."""
    with opened(path, remedy, "np", data=False) as (_, metadata):
        return metadata


@contextlib.contextmanager
def sealing(path: Path, metadata: Mapping[str, Any]) -> Iterator[tuple[Path, dict[str, str]]]:
    """Yield a path beside `path` and the metadata that safetensors must write to it; then add the checksums.

    The file appears at `path` whole or not at all. Raises UserError if the system refuses to write.
    """
    content = {"data": _BLANK, "header": _BLANK, "metadata": {**metadata, _FORMAT: FORMAT}}
    with files.replacing(path) as new_file:
        try:
            yield new_file, {KEY: files.canonical_json(content)}
        except SafetensorError as error:  # this is also its error for a full disk
            raise OSError(str(error)) from error
        with new_file.open("rb+") as file:
            header = _header(file)
            data = hashlib.file_digest(file, "sha256").hexdigest()
            header = header.replace(_checksums(_BLANK, _BLANK), _checksums(data, _BLANK), 1)
            digest = hashlib.sha256(header).hexdigest()
            file.seek(0)
            file.write(header.replace(_checksums(data, _BLANK), _checksums(data, digest), 1))


@contextlib.contextmanager
def opened(path: Path, remedy: str, framework: str, *, data: bool = True) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Yield safetensors' handle of a file that was verified, and our metadata in it.

    Without `data` the arrays' bytes are not verified: for callers that do not read them or know a hash of them. Raises
    UserError with `remedy` as `read` does, also if safetensors raises an error in the body.
    """
    try:
        if not path.is_file():
            reason = "not a regular file" if path.exists() else "no such file"
            raise damaged(path, reason, remedy)
        with safe_open(path, framework=framework) as file:
            text = (file.metadata() or {}).get(KEY, "{}")
            yield file, _verified(path, json.loads(text), remedy, data)
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise damaged(path, str(error), remedy) from error


def damaged(path: Path, detail: str, remedy: str) -> UserError:
    """Return the error for a file that cannot be read as arrays."""
    return UserError(f"{path} is damaged or no checkpoint ({' '.join(detail.split())[:120]})", remedy)


def _verified(path: Path, content: Any, remedy: str, data: bool) -> dict[str, Any]:
    """Return our metadata from their JSON, with checksums or, in a file of an earlier version, without."""
    if not isinstance(content, dict):
        raise damaged(path, "its metadata are no table", remedy)
    if content.keys() != {"data", "header", "metadata"}:
        if _FORMAT in content:
            raise integrity.altered(path, remedy)
        return content
    with path.open("rb") as file:
        header = _header(file)
        named, digest = str(content["data"]), str(content["header"])
        blank = header.replace(_checksums(named, digest), _checksums(named, _BLANK), 1)
        if hashlib.sha256(blank).hexdigest() != digest:
            raise integrity.altered(path, remedy)
        if data and hashlib.file_digest(file, "sha256").hexdigest() != named:
            raise integrity.altered(path, remedy)
    metadata: dict[str, Any] = content["metadata"]  # what `sealing` wrote, as the checksum shows
    if metadata.pop(_FORMAT) != FORMAT:
        raise damaged(path, "written by a newer version of adaptformer", remedy)
    return metadata


def _header(file: BinaryIO) -> bytes:
    """Return all bytes of a safetensors file before those of the arrays, and leave the file position after them."""
    start = file.read(8)
    (size,) = struct.unpack("<Q", start)
    if size > _LARGEST_HEADER:
        raise ValueError("its header is too large")
    return start + file.read(size)


def _checksums(data: str, header: str) -> bytes:
    """Return the checksums as they are in a file: the beginning of a JSON text within JSON."""
    return json.dumps(files.canonical_json({"data": data, "header": header}))[1:-2].encode()
