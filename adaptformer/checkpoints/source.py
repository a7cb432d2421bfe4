"""Location of the file that `backbone.checkpoint` names, downloaded if need be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from adaptformer.base import files, integrity
from adaptformer.base.errors import UserError, has_credentials
from adaptformer.checkpoints import address, catalogue, download

BUNDLED = "bundled"
_HUB = "hub:"
_HUB_FILE = "model.safetensors"


class Source(NamedTuple):
    """A checkpoint's file or folder, its origin for the card (without local folders), and its expected sha256."""

    path: Path
    origin: str
    sha256: str | None


def locate(model: str, checkpoint: str, sha256: str | None, allowed_licences: Sequence[str]) -> Source:
    """Return the file or folder that `checkpoint` names, downloaded if need be.

    `checkpoint` is `bundled`, an id of the catalogue, an https address, `hub:ID@REVISION`, or a path; `sha256` is None
    if the user gives none. Raises UserError if a download has no hash to verify it by, if the licence in the catalogue
    is not allowed, and if the file cannot be found or fetched.
    """
    if checkpoint == BUNDLED:
        path = _bundled(model)
        entry = catalogue.find(BUNDLED)
        if entry and entry.model == model and files.sha256_file(path) != entry.sha256:
            raise integrity.altered(path, "install adaptformer again, or restore the file from git")
        return Source(path, f"{BUNDLED}/{path.name}", sha256)
    if entry := catalogue.find(checkpoint):
        if model != entry.model:
            raise UserError(
                f"backbone.checkpoint = {checkpoint} is made for {entry.model}, not for backbone.model = {model}",
                f"set backbone.model to {entry.model}",
            )
        catalogue.allow(entry.licence, allowed_licences, f"backbone.checkpoint = {checkpoint}")
        if not (sha256 := sha256 or entry.sha256):
            raise UserError(f"backbone.checkpoint = {checkpoint} has no known sha256", entry.note)
        checkpoint = entry.source
    if checkpoint.startswith(_HUB):
        return _from_hub(checkpoint, sha256)
    if "://" in checkpoint:
        if has_credentials(checkpoint):
            raise UserError(
                "the address of the checkpoint holds a password, token or signature, which would appear in all records",
                "download the file by hand and set backbone.checkpoint to its path",
            )
        if sha256 is None:
            raise UserError(
                f"backbone.checkpoint = {address.shown(checkpoint)} needs a hash to be verified by",
                "set backbone.sha256 to the sha256 that the publisher states",
            )
        return Source(download.fetch(checkpoint, sha256), address.shown(checkpoint), sha256)
    path = Path(checkpoint)
    if not path.is_file() and not path.is_dir():
        ids = ", ".join(entry.id for entry in catalogue.ENTRIES[:3])
        raise UserError(
            f"backbone.checkpoint = {checkpoint} is neither a file, nor a folder, nor an id of the catalogue",
            f"give a path, an https address, or an id such as {ids} (`adaptformer backbones` lists them)",
        )
    return Source(path, path.resolve().name, sha256)


def is_remote(checkpoint: str) -> bool:
    """Return whether `checkpoint` is an address on the network."""
    return "://" in checkpoint or checkpoint.startswith(_HUB)


def _from_hub(checkpoint: str, sha256: str | None) -> Source:
    """Return the file of `hub:ID@REVISION`; an ID without an owner is timm's."""
    name, _, revision = checkpoint.removeprefix(_HUB).partition("@")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or not re.fullmatch(r"[\w.-]+", revision):
        raise UserError(
            f"backbone.checkpoint = {checkpoint} is not a pinned hub address",
            f"write {_HUB}ID@REVISION with the commit's 40 hexadecimal digits as REVISION",
        )
    if sha256 is None and not re.fullmatch(r"[0-9a-f]{40}", revision):  # a branch or a tag
        raise UserError(
            f"backbone.checkpoint = {checkpoint} names a revision that may change",
            "give the commit's 40 hexadecimal digits after the @, or set backbone.sha256",
        )
    repository = name if "/" in name else f"timm/{name}"
    return Source(_hub_file(repository, revision), f"{_HUB}{repository}@{revision}", sha256)


def _hub_file(repository: str, revision: str) -> Path:
    """Return the path of the repository's safetensors file in the hub's own cache, downloaded if need be.

    The hub was not reachable during development, so the tests replace the download itself.
    """
    from huggingface_hub import errors, hf_hub_download

    where = f"{repository}@{revision}"
    unreachable = (
        f"the hub cannot be reached for {where}, and its cache here does not hold it",
        "check the network and HF_HUB_OFFLINE; or get the file elsewhere and set backbone.checkpoint to its path",
    )
    messages = {  # the most specific first: some of these are subclasses of others
        errors.GatedRepoError: (
            f"the hub gives {where} only to users who have accepted its terms",
            "accept them there, then `hf auth login`",
        ),
        errors.RepositoryNotFoundError: (f"the hub has no {repository}", "correct the id in backbone.checkpoint"),
        errors.RevisionNotFoundError: (
            f"{repository} has no revision {revision}",
            "take one from its history on the hub",
        ),
        errors.LocalEntryNotFoundError: unreachable,
        errors.OfflineModeIsEnabled: unreachable,
        errors.EntryNotFoundError: (f"{where} has no {_HUB_FILE}", "choose a repository that has one, as timm's do"),
    }
    try:
        return Path(hf_hub_download(repository, _HUB_FILE, revision=revision))
    except Exception as error:  # also those of the hub's HTTP library, which change between versions
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        otherwise = (f"{where} could not be fetched from the hub: {reason}", "run the same command again")
        raise UserError(
            *next((text for kind, text in messages.items() if isinstance(error, kind)), otherwise)
        ) from error


def _bundled(model: str) -> Path:
    path = Path(__file__).with_name(f"{model}.safetensors")
    if not path.is_file():
        bundled = ", ".join(sorted(file.stem for file in path.parent.glob("*.safetensors")))
        raise UserError(
            f"no checkpoint is bundled for backbone.model = {model}",
            f"set backbone.checkpoint to a file, or backbone.model to one of: {bundled}",
        )
    return path
