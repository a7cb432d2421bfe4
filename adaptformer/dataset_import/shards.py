"""Labelled images out of tar shards (WebDataset), Parquet shards (Hugging Face) and object stores, as class folders.

A source is a path or URL of a shard, several by `*` or by `{000..099}`, or the URL of a folder of classes. What it
holds is written to a folder on disk, image by image, which is then imported as any other.

In a tar file the files of one name belong together: `a/0001.jpg` with `a/0001.cls`, the class by name or number, or
with `a/0001.json`, whose `label` is it; without either, the folder of the image is its class. A Parquet file has the
columns `image` (bytes, or a record with `bytes`) and `label`. A shard whose name has the word train, validation or test
is of that split.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from adaptformer import progress, storage
from adaptformer.data.layout import ignored
from adaptformer.dataset_import.class_folders import SPLIT_NAMES
from adaptformer.errors import UserError

_ENDINGS = (".tar", ".tar.gz", ".tgz", ".parquet")
_LABELS = ("cls", "json")
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_ROWS_AT_ONCE = 64
_FORM = (
    "give tar shards with .cls or .json beside each image or a folder for each class, or Parquet with image and label"
)


class Sample(NamedTuple):
    """An image's bytes with its class, and the name and ending that its file gets."""

    name: str
    ending: str
    label: str
    content: bytes


def is_source(path: str) -> bool:
    """Say whether `as_folder` is needed for what a user names."""
    return storage.is_url(path) or is_shard(path)


def is_shard(location: str) -> bool:
    """Say whether a file holds many images, by its name."""
    return location.casefold().endswith(_ENDINGS)


@contextlib.contextmanager
def as_folder(source: str, folder: Path) -> Iterator[Path]:
    """Yield a folder of class folders with the images of a source; it is removed after the body.

    Raises UserError for a source that does not exist or cannot be read, and for images without a class.
    """
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with storage.user_errors(source):
            if is_shard(source):
                _unpack(locations(source), folder)
            else:
                _copy(source, folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def locations(source: str) -> list[str]:
    """Return the locations that `*` and `{000..099}` stand for."""
    expanded = [source]
    while any(_RANGE.search(one) for one in expanded):
        expanded = [_RANGE.sub(number, one, count=1) for one in expanded for number in _numbers(one)]
    found = [match for one in expanded for match in (storage.matching(one) if "*" in one else [one])]
    if not found:
        raise UserError(f"there is no {source}", _FORM)
    return found


def _numbers(text: str) -> list[str]:
    found = _RANGE.search(text)
    if found is None:
        return [text]
    first, last = found.groups()
    return [f"{number:0{len(first)}}" for number in range(int(first), int(last) + 1)]


def _unpack(shards: list[str], folder: Path) -> None:
    """Write the images of all shards to `folder`, below their splits where the shards' names have one."""
    splits = [split(shard) for shard in shards]
    if None in splits and any(splits):
        without = shards[splits.index(None)]
        raise UserError(
            f"the name of {without} says no split, and those of other shards do", "rename it, or import it alone"
        )
    for shard, name in zip(progress.steps(shards, "unpacking", len(shards), "shards"), splits, strict=True):
        for sample in samples(shard):
            _write(folder / name if name else folder, sample)


def samples(shard: str) -> Iterator[Sample]:
    """Yield the images of a shard, one after the other. Raises UserError for images without a class."""
    with storage.opened(shard) as file:
        yield from _in_parquet(file, shard) if shard.casefold().endswith(".parquet") else _in_tar(file, shard)


def split(shard: str) -> str | None:
    """Return the split that the name of a shard says, or None."""
    words = re.split(r"[^a-z]+", PurePosixPath(shard).name.casefold())
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), None)


def _in_tar(file: IO[bytes], shard: str) -> Iterator[Sample]:
    """Yield the samples of a tar file, which is read once from its beginning to its end."""
    with tarfile.open(fileobj=file, mode="r|*") as archive:
        for key, parts in _grouped(archive):
            label = _label(parts, key, shard)
            images = {ending: content for ending, content in parts.items() if ending not in {*_LABELS, "txt"}}
            if len(images) != 1:
                raise UserError(f"{key} in {shard} has {len(images)} images: {', '.join(images) or 'none'}", _FORM)
            ((ending, content),) = images.items()
            yield Sample(key, ending, label, content)


def _grouped(archive: tarfile.TarFile) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield the files of one name, which stand one after the other, by their endings."""
    key, parts = "", dict[str, bytes]()
    for member in archive:
        path = PurePosixPath(member.name)
        if not member.isfile() or any(ignored(part) for part in path.parts if part != "."):
            continue
        stem, _, ending = path.name.partition(".")
        if parts and key != str(path.with_name(stem)):
            yield key, parts
            parts = {}
        key = str(path.with_name(stem))
        content = archive.extractfile(member)
        assert content is not None  # noqa: S101 - it is a file
        parts[ending.casefold()] = content.read()
    if parts:
        yield key, parts


def _label(parts: dict[str, bytes], key: str, shard: str) -> str:
    found: Any = None
    if "cls" in parts:
        found = parts["cls"].decode().strip()
    elif "json" in parts:
        about = json.loads(parts["json"])
        found = about.get("label", about.get("class")) if isinstance(about, dict) else None
    if found in (None, ""):
        found = PurePosixPath(key).parent.name
    return _checked(found, f"{key} in {shard}")


def _in_parquet(file: IO[bytes], shard: str) -> Iterator[Sample]:
    import pyarrow.parquet as pq

    table = pq.ParquetFile(file)
    columns = table.schema_arrow.names
    if missing := {"image", "label"} - set(columns):
        raise UserError(f"{shard} has no column {min(missing)}, but {', '.join(columns)}", _FORM)
    names = _names(table.schema_arrow.metadata or {})
    number = 0
    for batch in table.iter_batches(_ROWS_AT_ONCE, columns=["image", "label"]):
        for row in batch.to_pylist():
            image, place = row["image"], f"row {number} of {shard}"
            content = image.get("bytes") if isinstance(image, dict) else image
            if not isinstance(content, bytes):
                raise UserError(f"{place} holds no image's bytes", _FORM)
            path = PurePosixPath((isinstance(image, dict) and image.get("path")) or "")
            label = names[row["label"]] if names and isinstance(row["label"], int) else row["label"]
            name = path.stem or f"{PurePosixPath(shard).stem}-{number:07}"
            yield Sample(name, path.suffix.lstrip(".") or "image", _checked(label, place), content)
            number += 1


def _names(metadata: dict[bytes, bytes]) -> list[str]:
    """Return the names of the classes, which Hugging Face's files have in their metadata; empty without them."""
    about = json.loads(metadata.get(b"huggingface", b"{}"))
    label = about.get("info", {}).get("features", {}).get("label", {})
    names: list[str] = label.get("names") or []
    return names


def _checked(label: Any, place: str) -> str:
    text = "" if label is None else str(label).strip()
    if not text or "/" in text or text.startswith("."):
        raise UserError(f"{place} has the class {text!r}, which can be no folder's name", _FORM)
    return text


def _write(folder: Path, sample: Sample) -> None:
    target = folder / sample.label
    target.mkdir(parents=True, exist_ok=True)
    # A key's folders are part of its name: two shards may have the same file name in different ones.
    stem = sample.name.strip("./").replace("/", "_") or "image"
    path, number = target / f"{stem}.{sample.ending}", 1
    while path.exists():
        number += 1
        path = target / f"{stem}-{number}.{sample.ending}"
    path.write_bytes(sample.content)


def _copy(source: str, folder: Path) -> None:
    """Copy the files below a URL."""
    found = list(storage.below(source))
    if not found:
        raise UserError(f"{source} holds no files", "check the address, and whether you may list it")
    for location in progress.steps(found, "downloading", len(found), "images"):
        path = folder / _place(location)[len(_place(source)) :].strip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(storage.read(location))


def _place(url: str) -> str:
    """Return a URL without its scheme."""
    return url.partition("://")[2].strip("/")
