"""Files by path, or by URL in an object store (s3://bucket/…, gs://…) through fsspec.

A location is a text: a URL if it holds "://", else a path.
"""

from __future__ import annotations

import contextlib
import glob as local_glob
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

from adaptformer.base import files
from adaptformer.base.errors import UserError, has_credentials, without_credentials
from adaptformer.base.names import ignored
from adaptformer.data import image_files
from adaptformer.data.layout import LeftOut, visible_files

log = logging.getLogger("adaptformer")

T = TypeVar("T")

ATTEMPTS = 3
"""How often work on a store is tried before its error ends the job: stores have short failures."""
SECONDS_BETWEEN_ATTEMPTS = 2.0
NO_FILE = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
"""Errors that a retry does not change: with one of them the image itself is at fault."""


def is_url(location: str) -> bool:
    """Return whether a location is in an object store."""
    return "://" in location


def absolute(location: str) -> str:
    """Return the location so that a process in any folder finds it. Raises UserError as `without_secrets` does."""
    return without_secrets(location) if is_url(location) else os.path.abspath(location)  # noqa: PTH100 - links stay as they are


def join(folder: str, name: str) -> str:
    """Return the location of a file in a folder."""
    return f"{folder.rstrip('/')}/{name}"


def resolve(location: str, name: str) -> str:
    """Return the location that `name` means in a file at `location`: `name` itself, or relative to the file's folder.

    Raises UserError as `without_secrets` does.
    """
    if is_url(name):
        return without_secrets(name)
    return name if name.startswith("/") else join(location.rpartition("/")[0] or ".", name)


def without_secrets(url: str) -> str:
    """Return a URL that may be written down. Raises UserError for one with a password, a token or a signature."""
    if has_credentials(url):
        raise UserError(
            f"{without_credentials(url)} was given with a user, a password, a token or a signature, and would be "
            "written into files with it",
            "give the address alone, and who you are in the environment (AWS_ACCESS_KEY_ID, AWS_PROFILE, …)",
        )
    return url


def read(location: str) -> bytes:
    """Return a file's bytes. Raises FileNotFoundError, or whatever the store raises."""
    if not is_url(location):
        return Path(location).read_bytes()
    system, path = _system(location)
    content: bytes = system.cat_file(path)
    return content


def read_image(location: str, limit: int = image_files.MAX_BYTES) -> bytes:
    """Return the bytes of an image file. Raises DamagedImage unless it is a regular file of at most `limit` bytes."""
    if not is_url(location):
        return image_files.read(Path(location), limit)
    system, path = _system(location)
    try:
        content: bytes = system.cat_file(path, start=0, end=limit + 1)
    except NO_FILE:
        raise
    except Exception:  # stores refuse a range of an empty object, each with an exception of its own
        if system.size(path) == 0:
            return b""
        raise
    if len(content) > limit:
        raise image_files.too_large(None, limit)
    return content


def write(location: str, content: bytes) -> None:
    """Write a file, whole or not at all: object stores show an object only when all of it has arrived."""
    if is_url(location):
        system, path = _system(location)
        system.pipe_file(path, content)
    else:
        files.write_bytes(Path(location), content)


@contextlib.contextmanager
def opened(location: str) -> Iterator[IO[bytes]]:
    """Open a file for reading in parts. Raises DamagedImage unless it is a regular file."""
    if is_url(location):
        system, path = _system(location)
        with system.open(path, "rb") as file:
            yield file
    else:
        with image_files.opened(Path(location)) as file:
            yield file


def is_file(location: str) -> bool:
    """Return whether there is a file."""
    if not is_url(location):
        return Path(location).is_file()
    system, path = _system(location)
    system.invalidate_cache()  # another process may have written the file by now
    return bool(system.isfile(path))


def walk(folder: str, *, hidden: bool = False, tell: bool = False) -> Iterator[str]:
    """Yield the location of every file below a folder, one folder after the other.

    Hidden files and litter are left out; with `hidden`, those of a store are included. With `tell`, a line of the log
    says at the end how many were left out.
    """
    left_out = LeftOut()
    folders = _store_files(folder, hidden, left_out) if is_url(folder) else visible_files(folder, left_out)
    for place, names in folders:
        yield from (join(place, name) for name in names)
    if tell:
        left_out.tell(folder)


def _store_files(folder: str, hidden: bool, left_out: LeftOut) -> Iterator[tuple[str, list[str]]]:
    """Yield the folders and file names of a store's folder, as `visible_files` does for a folder of this machine."""
    system, root = _system(folder)
    for place, names, names_of_files in system.walk(root):
        if hidden or not any(ignored(part) for part in place[len(root) :].split("/") if part):
            left_out.count(place, () if hidden else [*names, *names_of_files])
            yield (
                system.unstrip_protocol(place),
                sorted(name for name in names_of_files if name and (hidden or not ignored(name))),
            )


def glob(pattern: str) -> list[str]:
    """Return the locations of the files that match a pattern with `*`, sorted."""
    if not is_url(pattern):
        return sorted(local_glob.glob(pattern))  # noqa: PTH207 - a whole path as the pattern
    system, path = _system(pattern)
    return [system.unstrip_protocol(match) for match in sorted(system.glob(path))]


@contextlib.contextmanager
def user_errors(location: str) -> Iterator[None]:
    """Turn an exception of a store or the file system in the body into a UserError about the location."""
    try:
        yield
    except (UserError, KeyboardInterrupt):
        raise
    except Exception as error:  # each store has exceptions of its own, without a common base
        message = " ".join(str(error).split()) or type(error).__name__
        reason = "it does not exist" if isinstance(error, FileNotFoundError) else message
        raise UserError(
            f"cannot use {location}: {reason}", "check the address, and whether you may read and write there"
        ) from error


def retried(work: Callable[[], T], what: str) -> T:
    """Return the result of `work`, which messages call `what`; try again if it fails, unless with a UserError.

    Raises UserError if it failed ATTEMPTS times.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return work()
        except (UserError, MemoryError, KeyboardInterrupt):
            raise
        except Exception as error:  # each store has exceptions of its own
            reason = without_credentials(" ".join(f"{type(error).__name__}: {error}".split()))
            if attempt == ATTEMPTS:
                raise UserError(
                    f"{what} failed {ATTEMPTS} times: {reason}",
                    "resolve that, then run the same command again: it computes the missing parts",
                ) from error
            log.warning("%s is tried again: %s", what, reason)
            time.sleep(SECONDS_BETWEEN_ATTEMPTS * attempt)
    raise AssertionError


def _system(url: str) -> tuple[Any, str]:
    """Return the file system of a URL and the path in it. Raises UserError for a store that is not installed."""
    try:
        from fsspec.core import url_to_fs

        system, path = url_to_fs(url)
    except (ImportError, ValueError) as error:
        scheme = url.partition("://")[0]
        extra = "adaptformer[s3]" if scheme == "s3" else f"the fsspec package of {scheme}://"
        raise UserError(f"{url} cannot be read: {error}", f"pip install '{extra}', or give a path") from error
    return system, path
