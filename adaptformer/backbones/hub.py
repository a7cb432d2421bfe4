"""Checkpoints on the Hugging Face hub: pinned to a commit and a sha256, looked up once, downloaded to the hub's cache.

The hub was not reachable during development; the tests have a server on the loopback address that answers as it does.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from adaptformer.backbones import address, download
from adaptformer.base import files
from adaptformer.base.errors import UserError

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata

log = logging.getLogger("adaptformer")

_PREFIX = "hub:"
_FILE = "model.safetensors"
_PAGE = "README.md"
_MAIN = "main"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_LICENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 .+()_-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_OWN_COPY = "or get the file elsewhere and set backbone.checkpoint to its path"


class Place(NamedTuple):
    """A revision of a repository; the revision is a commit, or a branch or tag, which may move."""

    repository: str
    revision: str

    @property
    def pinned(self) -> bool:
        """Whether the revision is a commit."""
        return _COMMIT.fullmatch(self.revision) is not None

    def __str__(self) -> str:
        return f"{_PREFIX}{self.repository}@{self.revision}"


class Pin(NamedTuple):
    """A checkpoint file that can no longer change: its commit, its sha256, and its size in bytes if known."""

    place: Place
    sha256: str
    size: int | None


def is_address(checkpoint: str) -> bool:
    """Return whether `checkpoint` has the form of an address on the hub."""
    return checkpoint.startswith(_PREFIX)


def parsed(checkpoint: str) -> Place:
    """Return the place that `hub:REPOSITORY` or `hub:REPOSITORY@REVISION` names.

    A repository without an owner is timm's, and no revision means the newest commit. Raises UserError for another form.
    """
    name, sign, revision = checkpoint.removeprefix(_PREFIX).partition("@")
    revision = revision if sign else _MAIN
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or not re.fullmatch(r"[\w.-]+", revision):
        raise UserError(
            f"backbone.checkpoint = {checkpoint} is not an address on the hub",
            f"write {_PREFIX}REPOSITORY, or {_PREFIX}REPOSITORY@COMMIT with the commit's 40 hexadecimal digits",
        )
    return Place(name if "/" in name else f"timm/{name}", revision)


def cached(place: Place) -> Path | None:
    """Return the checkpoint's path in the hub's cache, None if it is not there or not at a commit."""
    return _in_cache(place, _FILE) if place.pinned else None


def pin(place: Place, sha256: str | None) -> Pin:
    """Return the commit and the sha256 of a place's checkpoint; the hub is not asked for a file in its cache here.

    `sha256` is the expected one, None if the user gives none. Raises UserError if the hub cannot be asked, has no such
    file or states another sha256.
    """
    path = cached(place)
    size: int | None
    # The cache names a file by the sha256 that the hub stated; a cache without links has lost that name.
    stated = path.resolve().name if path else ""
    if path and (sha256 or _SHA256.fullmatch(stated)):
        commit, size = place.revision, path.stat().st_size
    else:
        metadata = _asked(place, _FILE)
        commit, stated, size = metadata.commit_hash or "", metadata.etag or "", metadata.size
    if not _SHA256.fullmatch(stated):  # the git hash of a small file
        stated = ""
    if not _COMMIT.fullmatch(commit) or not (sha256 or stated):
        raise UserError(
            f"the hub states no commit and sha256 for {_FILE} of {place}",
            f"give the commit after the @ and backbone.sha256; {_OWN_COPY}",
        )
    if sha256 and stated and sha256 != stated:
        raise UserError(
            f"the hub states the sha256 {stated} for {_FILE} of {place}, not backbone.sha256 = {sha256}",
            "set backbone.sha256 to null if you mean the hub's file, or correct backbone.checkpoint",
        )
    return Pin(Place(place.repository, commit), sha256 or stated, size)


def licence(place: Place) -> str | None:
    """Return the licence that the repository's page states at this commit, None if it states none."""
    from huggingface_hub import ModelCard, errors

    try:
        text = _file(place, _PAGE).read_text(encoding="utf-8", errors="replace")
    except errors.EntryNotFoundError:  # a repository without a page
        return None
    try:
        data = ModelCard(text).data
    except Exception as error:  # its head may be any YAML, or none
        log.warning("warning: the page of %s cannot be read (%s)", place, address.one_line(error))
        return None
    stated = data.get("license")
    if stated == "other":  # with the name of its own beside it
        stated = data.get("license_name") or stated
    # Anybody may write such a page, and its text reaches log lines and cards.
    return stated if isinstance(stated, str) and _LICENCE.fullmatch(stated) else None


def fetch(pinned: Pin) -> Path:
    """Return the path of the checkpoint in the hub's cache, downloaded unless it is there with the right bytes.

    Raises UserError if the hub cannot be reached, or gives other bytes than those of the pin.
    """
    path = _file(pinned.place, _FILE)
    if files.sha256_file(path) != pinned.sha256:  # the hub's client compares sizes only
        log.warning("warning: %s is not the file of %s: it is downloaded again", path, pinned.place)
        path = _file(pinned.place, _FILE, again=True)
    if (sha256 := files.sha256_file(path)) != pinned.sha256:
        raise UserError(
            f"{_FILE} of {pinned.place} has sha256 {sha256}, not {pinned.sha256}",
            "correct backbone.sha256 if you mean this file, or take another checkpoint",
        )
    return path


def _in_cache(place: Place, name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(place.repository, name, revision=place.revision)
    return Path(path) if isinstance(path, str) else None


def _file(place: Place, name: str, *, again: bool = False) -> Path:
    """Return the path of a repository's file in the hub's cache, downloaded if need be, or `again`.

    Raises EntryNotFoundError for a page that the repository does not have, and UserError for everything else.
    """
    from huggingface_hub import hf_hub_download

    if not again and (path := _in_cache(place, name)):
        return path
    # Asked first, and once: the download itself would try again for a minute while there is no network.
    _asked(place, name)
    log.info("downloading %s of %s", name, place)
    try:
        return Path(hf_hub_download(place.repository, name, revision=place.revision, force_download=again))
    except Exception as error:  # also those of the hub's HTTP library, which change between versions
        _refuse(place, name, error)


def _asked(place: Place, name: str) -> HfFileMetadata:
    """Return what the hub states about a file, in one attempt."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    if download.offline():
        raise UserError(
            f"{name} of {place} is not in the hub's cache here, and downloads are switched off",
            f"leave out --offline and HF_HUB_OFFLINE once, with a network; {_OWN_COPY}",
        )
    try:
        return get_hf_file_metadata(hf_hub_url(place.repository, name, revision=place.revision))
    except Exception as error:  # also those of the hub's HTTP library, which change between versions
        _refuse(place, name, error)


def _refuse(place: Place, name: str, error: Exception) -> NoReturn:
    """Raise the UserError for an answer of the hub, or for none; EntryNotFoundError for a page stays what it is."""
    from huggingface_hub import errors

    if name == _PAGE and isinstance(error, errors.EntryNotFoundError):
        raise error
    reason = address.one_line(error)
    messages = {  # the most specific first: some of these are subclasses of others
        errors.GatedRepoError: (
            f"the hub gives {place} only to users who have accepted its terms",
            "accept them there, then `hf auth login`",
        ),
        errors.RepositoryNotFoundError: (f"the hub has no {place.repository}", "correct the id in backbone.checkpoint"),
        errors.RevisionNotFoundError: (
            f"{place.repository} has no revision {place.revision}",
            "take one from its history on the hub",
        ),
        errors.LocalEntryNotFoundError: (f"the hub cannot be reached for {place}", f"check the network; {_OWN_COPY}"),
        errors.EntryNotFoundError: (f"{place} has no {name}", "choose a repository that has one, as timm's do"),
        errors.HfHubHTTPError: (f"the hub did not give {place}: {reason}", "run the same command again later"),
    }
    otherwise = (f"the hub cannot be reached for {place}: {reason}", f"check the network; {_OWN_COPY}")
    raise UserError(*next((text for kind, text in messages.items() if isinstance(error, kind)), otherwise)) from error
