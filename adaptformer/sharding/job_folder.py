"""The folder of a job: its description, the lists of its shards, and its lock.

The lists are written first, the description last, with the hash of all lists. The same command on a folder with a
description continues that job; on a folder without one it begins anew. The folder may be in an object store.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from filelock import FileLock, Timeout

from adaptformer.base import files, integrity, names
from adaptformer.base.errors import UserError
from adaptformer.data import storage, thread_map

LOCK = ".lock"
LISTS_AT_ONCE = 16
"""Lists that are read at once when a job continues: many reads at once pay off with object stores."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """The description of a job of `shards` shards of `sources`; `inputs` is the hash of the shards' lists.

    A kind of job adds the fields that decide its results, and names its files by the class variables.
    """

    folder: str
    sources: tuple[str, ...]
    shards: int
    inputs: str

    kind: ClassVar[str]
    """Words for the content of the folder, such as "the predictions of another job"."""
    description: ClassVar[str]
    lists: ClassVar[str]
    """The folder of the shards' lists."""
    column: ClassVar[str]
    """The column of a list."""
    stored_names: ClassVar[Mapping[str, str]] = {}
    """Names that fields have in the description if they differ."""
    counted: ClassVar[str] = ""
    """The field for the number of listed items, if the kind of job has one."""

    def file(self, name: str) -> str:
        """Return the location of a file in the folder."""
        return storage.join(self.folder, name)

    def input(self, shard: int) -> str:
        """Return the location of a shard's list."""
        return self.file(f"{self.lists}/{shard:08d}.parquet")

    def require_lists(self, hashes: Iterable[str]) -> None:
        """Raise UserError unless these are the hashes of the lists that the job was made with."""
        if digest(hashes) != self.inputs:
            raise UserError(
                f"the lists in {self.folder}/{self.lists}/ are not those that the job was made with",
                "bring them back from a copy, or give another folder",
            )

    @classmethod
    def prepare(
        cls,
        folder: str,
        sources: Iterable[str],
        parts: Iterable[list[str]],
        copied: Mapping[str, Path],
        **decisive: str | int,
    ) -> Self:
        """Return the job in `folder`: the existing one, or a new one, whose items are listed now.

        `parts` are the items of each shard, read only for a new job; `copied` are the files that the job needs, by
        their name in the folder; `decisive` are the fields of the kind of job that the caller decides.

        Raises UserError if the folder holds another job, a damaged one or other files, and for locations that cannot
        be read or written.
        """
        description = {"sources": tuple(sources), **decisive}
        with storage.user_errors(folder):
            described = cls._described(folder)
            if described is None:
                _require_free(folder, {cls.lists, LOCK, *copied})
        if described is None:
            return cls._new(folder, description, parts, copied)
        if other := [name for name, value in description.items() if described[name] != value]:
            raise UserError(f"{folder} holds {cls.kind}, with other {', '.join(other)}", "give another folder")
        job = cls(folder=folder, **described)
        with storage.user_errors(folder):  # checked before anything is computed from a wrong list
            job.require_lists(thread_map.in_order(_hash, map(job.input, range(job.shards)), LISTS_AT_ONCE))
        return job

    @classmethod
    def _new(
        cls, folder: str, description: dict[str, Any], parts: Iterable[list[str]], copied: Mapping[str, Path]
    ) -> Self:
        """Write the files of a new job, in constant memory and the description last, and return the job."""
        with storage.user_errors(folder):
            for name, source in copied.items():
                storage.write(storage.join(folder, name), source.read_bytes())
        hashes: list[str] = []
        items = 0
        for part in parts:
            content = parquet({cls.column: [names.storable(place) for place in part]}, {})
            with storage.user_errors(folder):
                storage.write(storage.join(folder, f"{cls.lists}/{len(hashes):08d}.parquet"), content)
            hashes.append(hashlib.sha256(content).hexdigest())
            items += len(part)
        counted: dict[str, Any] = {cls.counted: items} if cls.counted else {}
        job = cls(folder=folder, shards=len(hashes), inputs=digest(hashes), **description, **counted)
        stored = {cls.stored_names.get(name, name): value for name, value in dataclasses.asdict(job).items()}
        del stored["folder"]
        with storage.user_errors(folder):
            storage.write(job.file(cls.description), integrity.record(stored).encode())
        return job

    @classmethod
    def _described(cls, folder: str) -> dict[str, Any] | None:
        """Return the fields of the job in a folder, None if there is none. Raises UserError for a damaged one."""
        location = storage.join(folder, cls.description)
        if not storage.is_file(location):
            return None
        content = storage.read(location)
        fields = {cls.stored_names.get(field.name, field.name): field.name for field in dataclasses.fields(cls)}
        del fields["folder"]
        stored: Any = None
        with contextlib.suppress(ValueError, RecursionError):
            stored = json.loads(content)
        # Jobs of earlier versions have no checksum; their keys must then match exactly.
        if not isinstance(stored, dict) or stored.keys() != fields.keys():
            stored = integrity.parse_record(content, location, "bring it back from a copy, or give another folder")
        if stored.keys() != fields.keys():
            raise UserError(f"{location} was written by another version of adaptformer", "give another folder")
        return {name: stored[key] for key, name in fields.items()} | {"sources": tuple(stored["sources"])}


def digest(hashes: Iterable[str]) -> str:
    """Return one hash of the hashes of all shards' lists, in the order of the shards."""
    return files.sha256_text("".join(hashes))


def parquet(columns: dict[str, Any], about: dict[str, str]) -> bytes:
    """Return the bytes of a Parquet file of columns, equal for equal content; `about` is stored in its metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(columns)
    out = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({"adaptformer": files.canonical_json(about)}), out)
    return out.getvalue()


def _hash(location: str) -> str:
    return hashlib.sha256(storage.read(location)).hexdigest()


def _require_free(folder: str, own: set[str]) -> None:
    """Raise UserError if a folder holds files that an interrupted preparation cannot have left."""
    below = len(folder.rstrip("/")) + 1
    first = next((place for place in storage.walk(folder) if place[below:].partition("/")[0] not in own), None)
    if first is not None:
        raise UserError(f"{folder} holds other files, such as {first}", "give a folder that does not exist yet")


@contextlib.contextmanager
def alone(folder: str) -> Iterator[None]:
    """Lock a folder during the body. A bucket has no locks; two commands on it only compute the same results twice."""
    if storage.is_url(folder):
        yield
        return
    lock = FileLock(Path(folder) / LOCK, timeout=0)
    try:
        with files.refusals(Path(folder)):
            Path(folder).mkdir(parents=True, exist_ok=True)
            held = lock.acquire()
    except Timeout as error:
        raise UserError(
            f"{folder} is in use by another command", "wait until it ends, or stop it, then run the same command again"
        ) from error
    with held:
        yield


def remove_leftovers(folder: str) -> None:
    """Remove the partial files that killed processes left in a job's folder; call it when every shard is done."""
    if not storage.is_url(folder):
        for leftover in Path(folder).rglob(".*.partial*"):
            leftover.unlink(missing_ok=True)
