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
from adaptformer.data import image_files
from adaptformer.data.decoding import DamagedImage
from adaptformer.dataset_import.class_folders import SPLIT_NAMES
from adaptformer.errors import UserError
from adaptformer.names import class_name_fault, ignored, one_form, quoted, shown, stored

_ENDINGS = (".tar", ".tar.gz", ".tgz", ".parquet")
_LABELS = ("cls", "json")
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_ROWS_AT_ONCE = 64
_FORM = (
    "give tar shards with .cls or .json beside each image or a folder for each class, or Parquet with image and label"
)


class Sample(NamedTuple):
    """An image's bytes with its class, and the name and ending that its file gets; or a fault in place of the bytes."""

    name: str
    ending: str
    label: str
    content: bytes
    fault: str = ""


def is_source(path: str) -> bool:
    """Say whether `as_folder` is needed for what a user names."""
    return storage.is_url(path) or is_shard(path)


def is_shard(location: str) -> bool:
    """Say whether a file holds many images, by its name."""
    return location.casefold().endswith(_ENDINGS)


@contextlib.contextmanager
def as_folder(source: str, folder: Path, limit: int = image_files.MAX_BYTES) -> Iterator[Path]:
    """Yield a folder of class folders with the images of a source; it is removed after the body.

    Raises UserError for a source that does not exist or cannot be read, for images without a class, and for files of
    more than `limit` bytes.
    """
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with storage.user_errors(source):
            if is_shard(source):
                _unpack(locations(source), folder, limit)
            else:
                _copy(source, folder, limit)
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


def _unpack(shards: list[str], folder: Path, limit: int) -> None:
    """Write the images of all shards to `folder`, below their splits where the shards' names have one."""
    splits = [split(shard) for shard in shards]
    if None in splits and any(splits):
        without = shards[splits.index(None)]
        raise UserError(
            f"the name of {without} says no split, and those of other shards do", "rename it, or import it alone"
        )
    for shard, name in zip(progress.steps(shards, "unpacking", len(shards), "shards"), splits, strict=True):
        for sample in samples(shard, limit):
            if sample.fault:
                raise UserError(f"{shown(sample.name)} in {shard}: {sample.fault}", _FORM)
            _write(folder / name if name else folder, sample)


def samples(shard: str, limit: int = image_files.MAX_BYTES) -> Iterator[Sample]:
    """Yield the images of a shard, one after the other; one of more than `limit` bytes as a fault.

    Raises UserError for images without a class.
    """
    with storage.opened(shard) as file:
        parquet = shard.casefold().endswith(".parquet")
        yield from _in_parquet(file, shard, limit) if parquet else _in_tar(file, shard, limit)


def split(shard: str) -> str | None:
    """Return the split that the name of a shard says, or None."""
    words = re.split(r"[^a-z]+", PurePosixPath(shard).name.casefold())
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), None)


def _in_tar(file: IO[bytes], shard: str, limit: int) -> Iterator[Sample]:
    """Yield the samples of a tar file, which is read once from its beginning to its end."""
    with tarfile.open(fileobj=file, mode="r|*") as archive:
        for key, parts in _grouped(archive, limit):
            label = _label(parts, key, shard)
            images = {ending: content for ending, content in parts.items() if ending not in {*_LABELS, "txt"}}
            if len(images) != 1:
                endings = shown(", ".join(images)) or "none"
                raise UserError(f"{shown(key)} in {shard} has {len(images)} images: {endings}", _FORM)
            ((ending, content),) = images.items()
            if isinstance(content, DamagedImage):
                yield Sample(key, ending, label, b"", str(content))
            else:
                yield Sample(key, ending, label, content)


def _grouped(archive: tarfile.TarFile, limit: int) -> Iterator[tuple[str, dict[str, bytes | DamagedImage]]]:
    """Yield the files of one name, which stand one after the other, by their endings; or why one cannot be used."""
    key, parts = "", dict[str, bytes | DamagedImage]()
    for member in archive:
        path = PurePosixPath(member.name)
        if member.isdir() or any(ignored(part) for part in path.parts if part != "."):
            continue
        stem, _, ending = path.name.partition(".")
        if parts and key != str(path.with_name(stem)):
            yield key, parts
            parts = {}
        key = str(path.with_name(stem))
        parts[ending.casefold()] = _content(archive, member, limit)
    if parts:
        yield key, parts


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo, limit: int) -> bytes | DamagedImage:
    """Return the bytes of a file of an archive, or why it cannot be used."""
    if member.issym() or member.islnk():
        return DamagedImage(f"a link to {shown(member.linkname)}: an archive is read once, without going back")
    file = archive.extractfile(member) if member.isfile() else None
    if file is None:
        return DamagedImage("no regular file")
    try:
        return image_files.bounded(file, member.size, limit)
    except DamagedImage as error:
        return error


def _label(parts: dict[str, bytes | DamagedImage], key: str, shard: str) -> str:
    found: Any = None
    place = f"{shown(key)} in {shard}"
    ending = next((ending for ending in _LABELS if ending in parts), "")
    about = parts.get(ending, b"")
    if isinstance(about, DamagedImage):
        raise UserError(f"the label of {place} cannot be read: {about}", _FORM)
    try:
        if ending == "cls":
            found = about.decode().strip()
        elif ending == "json":
            told = json.loads(about)
            found = told.get("label", told.get("class")) if isinstance(told, dict) else None
    except (ValueError, RecursionError) as error:  # of UTF-8 and of JSON
        raise UserError(f"the label of {place} cannot be read: {' '.join(str(error).split())}", _FORM) from error
    if found in (None, ""):
        found = PurePosixPath(key).parent.name
    return _checked(found, place)


def _in_parquet(file: IO[bytes], shard: str, limit: int) -> Iterator[Sample]:
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
            fault = str(image_files.too_large(len(content), limit)) if len(content) > limit else ""
            yield Sample(name, path.suffix.lstrip(".") or "image", _checked(label, place), content, fault)
            number += 1


def _names(metadata: dict[bytes, bytes]) -> list[str]:
    """Return the names of the classes, which Hugging Face's files have in their metadata; empty without them."""
    about = json.loads(metadata.get(b"huggingface", b"{}"))
    label = about.get("info", {}).get("features", {}).get("label", {})
    names: list[str] = label.get("names") or []
    return names


def _checked(label: Any, place: str) -> str:
    """Return a label as the name of a class. Raises UserError for what can be none, such as a fraction or a list."""
    number = isinstance(label, int) and not isinstance(label, bool)
    name = str(label) if number else one_form(label.strip()) if isinstance(label, str) else label
    if fault := class_name_fault(name):
        raise UserError(f"{place} has the class {quoted(label)}, which {fault}", _FORM)
    return str(name)


def _write(folder: Path, sample: Sample) -> None:
    target = folder / sample.label
    target.mkdir(parents=True, exist_ok=True)
    # A key's folders are part of its name: two shards may have the same file name in different ones.
    stem = sample.name.strip("./").replace("/", "_").replace("\0", "_") or "image"
    path, number = target / stored(f"{stem}.{sample.ending}"), 1
    while path.exists():
        number += 1
        path = target / stored(f"{stem}-{number}.{sample.ending}")
    path.write_bytes(sample.content)


def _copy(source: str, folder: Path, limit: int) -> None:
    """Copy the files below a URL."""
    found = list(storage.below(source))
    if not found:
        raise UserError(f"{source} holds no files", "check the address, and whether you may list it")
    for location in progress.steps(found, "downloading", len(found), "images"):
        path = folder / _place(location)[len(_place(source)) :].strip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(storage.read_image(location, limit))


def _place(url: str) -> str:
    """Return a URL without its scheme."""
    return url.partition("://")[2].strip("/")
