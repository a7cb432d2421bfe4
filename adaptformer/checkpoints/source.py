"""Find or download the file that `backbone.checkpoint` names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adaptformer.checkpoints import address, catalogue, download, hub
from adaptformer.errors import UserError

BUNDLED = "bundled"


@dataclass(frozen=True)
class Source:
    """A checkpoint's file, what to call it in its card (no path of this machine), and its expected sha256."""

    path: Path
    origin: str
    sha256: str | None


def locate(model: str, checkpoint: str, sha256: str | None, allowed_licences: Sequence[str]) -> Source:
    """Return the file that `checkpoint` names, downloaded if need be.

    `checkpoint` is `bundled`, an id of the catalogue, an https address, `hub:ID@REVISION`, or a path; `sha256` is None
    where the user gives none. Raises UserError without a hash to verify the file by, where the catalogue's
    licence is not allowed, and for what cannot be found or fetched.
    """
    if checkpoint == BUNDLED:
        path = _bundled(model)
        return Source(path, f"{BUNDLED}/{path.name}", sha256)
    if entry := catalogue.find(checkpoint):
        if model != entry.model:
            raise UserError(
                f"backbone.checkpoint = {checkpoint} is made for {entry.model}, not for backbone.model = {model}",
                f"set backbone.model to {entry.model}",
            )
        catalogue.allow(entry.licence, allowed_licences, f"backbone.checkpoint = {checkpoint}")
        if not (sha256 := sha256 or entry.sha256):
            raise UserError(f"the sha256 of backbone.checkpoint = {checkpoint} must come from you", entry.note)
        checkpoint = entry.source
    if checkpoint.startswith(hub.PREFIX):
        return _from_hub(checkpoint, sha256)
    if "://" in checkpoint:
        if sha256 is None:
            raise UserError(
                f"backbone.checkpoint = {address.shown(checkpoint)} needs a hash to be verified by",
                "set backbone.sha256 to the sha256 that the publisher states",
            )
        return Source(download.fetch(checkpoint, sha256), address.shown(checkpoint), sha256)
    path = Path(checkpoint)
    if not path.is_file():
        ids = ", ".join(entry.id for entry in catalogue.ENTRIES[:3])
        raise UserError(
            f"backbone.checkpoint = {checkpoint} is no file and no id of the catalogue",
            f"give a path, an https address, or an id such as {ids} (`adaptformer backbones` lists them)",
        )
    return Source(path, path.name, sha256)


def is_remote(checkpoint: str) -> bool:
    """Return whether `checkpoint` is an address on the network."""
    return "://" in checkpoint or checkpoint.startswith(hub.PREFIX)


def _from_hub(checkpoint: str, sha256: str | None) -> Source:
    repository, revision = hub.parse(checkpoint)
    if sha256 is None and not hub.is_pinned(revision):
        raise UserError(
            f"backbone.checkpoint = {checkpoint} names a revision that may change",
            "give the commit's 40 hexadecimal digits after the @, or set backbone.sha256",
        )
    return Source(hub.fetch(repository, revision), f"{hub.PREFIX}{repository}@{revision}", sha256)


def _bundled(model: str) -> Path:
    folder = Path(__file__).parent
    path = folder / f"{model}.safetensors"
    if not path.is_file():
        bundled = ", ".join(sorted(file.stem for file in folder.glob("*.safetensors")))
        raise UserError(
            f"no checkpoint is bundled for backbone.model = {model}",
            f"set backbone.checkpoint to a file, or backbone.model to one of: {bundled}",
        )
    return path
