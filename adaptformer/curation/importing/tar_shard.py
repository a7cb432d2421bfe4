"""Reader of labelled images from a tar file (WebDataset), which is read once from its beginning to its end.

Files of one name belong together and are adjacent: `a/0001.jpg` with `a/0001.cls`, which holds the class as a name or
number, or with `a/0001.json`, whose key `label` holds it. If no image has either, folders are the classes.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import IO, Any

from adaptformer.base.errors import UserError
from adaptformer.base.names import ignored, shown
from adaptformer.curation.importing.shard_image import Sample, label_of
from adaptformer.data import image_files
from adaptformer.data.decoding import DamagedImage

_LABELS = ("cls", "json")
_NO_IMAGE = {*_LABELS, "txt"}
_WHOLE = "get the whole file again"
_Parts = dict[str, bytes | DamagedImage]


def samples(file: IO[bytes], shard: str, limit: int) -> Iterator[Sample]:
    """Yield the images of a tar file; an image above `limit` bytes or without a class gets a fault.

    Raises UserError for a truncated archive, and for one in which only some images have labels beside them.
    """
    kinds: dict[bool, str] = {}
    try:
        with tarfile.open(fileobj=file, mode="r|*", tarinfo=_Member) as archive:
            for key, parts in _grouped(archive, limit):
                if all(name in _NO_IMAGE for name in parts):
                    yield Sample(key, "", "", b"", "a label without an image")
                    continue
                kinds.setdefault(any(name in parts for name in _LABELS), key)
                if len(kinds) > 1:
                    raise UserError(
                        f"{shown(kinds[False])} in {shard} has no .cls or .json beside it, but others have one",
                        "give every image a label, or none: then folders are the classes",
                    )
                yield _sample(key, parts)
            _refuse_more(archive, shard)
    except _CutError as error:
        raise UserError(f"{shard} is truncated: it lacks the end of an archive", _WHOLE) from error
    except tarfile.TarError as error:
        raise UserError(f"{shard} cannot be read: {' '.join(str(error).split())}", _WHOLE) from error


class _CutError(Exception):
    """Raised at the end of a file that is not the end of an archive; tarfile alone accepts it silently."""


class _Member(tarfile.TarInfo):
    """A member of an archive; reading it raises _CutError if there is neither a next member nor an end mark."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> _Member:
        """Return the next member."""
        at_start = archive.offset == 0
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            if at_start:  # not an archive
                raise
            raise _CutError from error


def _refuse_more(archive: tarfile.TarFile, shard: str) -> None:
    """Raise UserError if anything but zeros follows the end, because another archive was appended."""
    stream: Any = archive.fileobj
    while rest := stream.read(1 << 20):
        if rest.strip(b"\0"):
            raise UserError(f"{shard} goes on after its end, as if archives were joined", "give them as separate files")


def _sample(key: str, parts: _Parts) -> Sample:
    images = {name: content for name, content in parts.items() if name not in _NO_IMAGE}
    ending, content = next(iter(images.items()))
    if len(images) > 1:
        return Sample(key, ending, "", b"", f"{len(images)} images of one name: {shown(', '.join(images))}")
    label, fault = _label(key, parts)
    if isinstance(content, DamagedImage):
        content, fault = b"", fault or str(content)
    return Sample(key, ending, label, b"" if fault else content, fault)


def _grouped(archive: tarfile.TarFile, limit: int) -> Iterator[tuple[str, _Parts]]:
    """Yield each name with its files by suffix: their bytes, or the error for a file that cannot be used."""
    key, parts = "", _Parts()
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
    """Return the bytes of a file of an archive, or the error if it cannot be used."""
    if member.issym() or member.islnk():
        return DamagedImage(f"a link to {shown(member.linkname)}: an archive is read once, without going back")
    file = archive.extractfile(member) if member.isfile() else None
    if file is None:
        return DamagedImage("no regular file")
    try:
        return image_files.bounded(file, member.size, limit)
    except DamagedImage as error:
        return error


def _label(key: str, parts: _Parts) -> tuple[str, str]:
    """Return the class of an image, and its fault or ""."""
    ending = next((name for name in _LABELS if name in parts), "")
    about = parts.get(ending, b"")
    if not ending:
        return label_of(PurePosixPath(key).parent.name)
    if isinstance(about, DamagedImage):
        return "", f"its label cannot be read: {about}"
    try:
        content: Any = about.decode().strip() if ending == "cls" else json.loads(about)
    except (ValueError, RecursionError) as error:  # from UTF-8 or JSON
        return "", f"its label cannot be read: {' '.join(str(error).split())[:100]}"
    if ending == "json":
        content = content.get("label", content.get("class")) if isinstance(content, dict) else None
    return label_of(content)
