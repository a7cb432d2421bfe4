"""Location of the file that `backbone.checkpoint` names, downloaded if need be."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NamedTuple

from adaptformer.backbones import address, catalogue, download, hub
from adaptformer.base import files, integrity
from adaptformer.base.errors import UserError, has_credentials
from adaptformer.config.params import BackboneParams, as_override
from adaptformer.model.backbone_card import UNKNOWN

log = logging.getLogger("adaptformer")

BUNDLED = "bundled"


class Licence(NamedTuple):
    """The name of a licence, and who states it."""

    name: str
    by: str


class Source(NamedTuple):
    """A checkpoint's file or folder, its origin for the card (without local folders), and its expected sha256.

    `licence` is the one that the hub's page states, or the catalogue for its repository; None if neither was asked.
    """

    path: Path
    origin: str
    sha256: str | None
    licence: Licence | None = None


def locate(settings: BackboneParams) -> Source:
    """Return the file or folder that `checkpoint` names, downloaded if need be.

    `checkpoint` is `bundled`, an id of the catalogue, an https address, `hub:REPOSITORY[@COMMIT]`, or a path. Raises
    UserError if a download has no hash to verify it by, if its licence is known before it and not allowed, and if the
    file cannot be found or fetched.
    """
    checkpoint, sha256 = settings.checkpoint, settings.sha256
    if checkpoint == BUNDLED:
        return _bundled(settings.model, sha256)
    if entry := catalogue.find(checkpoint):
        if settings.model != entry.model:
            raise UserError(
                f"backbone.checkpoint = {entry.id} is made for {entry.model}, "
                f"not for backbone.model = {settings.model}",
                f"set backbone.model to {entry.model}",
            )
        checkpoint, sha256 = entry.source, sha256 or entry.sha256
    if hub.is_address(checkpoint):
        return _from_hub(settings, hub.parsed(checkpoint), sha256)
    if "://" in checkpoint:
        return _from_address(settings, checkpoint, sha256)
    path = Path(checkpoint)
    if not path.is_file() and not path.is_dir():
        ids = ", ".join(entry.id for entry in catalogue.ENTRIES[:3])
        raise UserError(
            f"backbone.checkpoint = {checkpoint} is neither a file, nor a folder, nor an id of the catalogue",
            f"give a path, an https address, or an id such as {ids} (`adaptformer backbones` lists them)",
        )
    return Source(path, path.resolve().name, sha256)


def pinned(settings: BackboneParams) -> dict[str, Any]:
    """Return, by dotted key, the values that pin a checkpoint of the hub; none if it is no such, or has a commit.

    They are commit, sha256 and licence, as the hub states them now. Nothing but the repository's page is downloaded;
    `locate` verifies the bytes. Raises UserError if the hub cannot be asked.
    """
    if not hub.is_address(settings.checkpoint) or (place := hub.parsed(settings.checkpoint)).pinned:
        return {}
    pin = hub.pin(place, settings.sha256)
    return _values(settings, pin, _licence(pin.place))


def _from_hub(settings: BackboneParams, place: hub.Place, sha256: str | None) -> Source:
    """Return the file of a place on the hub, whose licence is judged before the download."""
    pin = hub.pin(place, sha256)
    licence = None if settings.licence else _licence(pin.place)
    name = settings.licence or (licence.name if licence else UNKNOWN)
    catalogue.allow(name, settings.allowed_licences, f"backbone.checkpoint = {settings.checkpoint}")
    path = hub.fetch(pin)
    if not place.pinned:
        values = _values(settings, pin, licence)
        size = "" if pin.size is None else f"{pin.size / 1e6:.0f} MB, "
        log.info("%s is %s now: %ssha256 %s, licence %s", place, pin.place, size, pin.sha256, name)
        words = " ".join(as_override(key, value) for key, value in values.items())
        log.warning("warning: a later commit may have other weights; `adaptformer params %s --write` pins these", words)
    return Source(path, str(pin.place), pin.sha256, licence)


def _values(settings: BackboneParams, pin: hub.Pin, licence: Licence | None) -> dict[str, Any]:
    return {
        "backbone.checkpoint": str(pin.place),
        "backbone.sha256": pin.sha256,
        "backbone.licence": settings.licence or (licence.name if licence else None),
    }


def _licence(place: hub.Place) -> Licence | None:
    """Return the licence of a repository: the catalogue's if it has a file of it, else the one that its page states."""
    if entry := catalogue.of_repository(place.repository):
        return Licence(entry.licence, "the catalogue, for the repository")
    name = hub.licence(place)
    return Licence(name, "the repository's page on the hub") if name else None


def _from_address(settings: BackboneParams, url: str, sha256: str | None) -> Source:
    """Return the file of an https address, downloaded; the licence is judged before, if it is known by then."""
    if has_credentials(url):
        raise UserError(
            "the address of the checkpoint holds a password, token or signature, which would appear in all records",
            "download the file by hand and set backbone.checkpoint to its path",
        )
    if sha256 is None:
        raise UserError(
            f"backbone.checkpoint = {address.shown(url)} needs a hash to be verified by",
            "set backbone.sha256 to the sha256 that the publisher states",
        )
    entry = catalogue.of_file(sha256)
    if licence := settings.licence or (entry.licence if entry else None):
        catalogue.allow(
            licence, settings.allowed_licences, f"backbone.checkpoint = {address.shown(settings.checkpoint)}"
        )
    return Source(download.fetch(url, sha256), address.shown(url), sha256)


def _bundled(model: str, sha256: str | None) -> Source:
    path = Path(__file__).with_name(f"{model}.safetensors")
    if not path.is_file():
        bundled = ", ".join(sorted(file.stem for file in path.parent.glob("*.safetensors")))
        raise UserError(
            f"no checkpoint is bundled for backbone.model = {model}",
            f"set backbone.checkpoint to a file, or backbone.model to one of: {bundled}",
        )
    entry = catalogue.find(BUNDLED)
    if entry and entry.model == model and files.sha256_file(path) != entry.sha256:
        raise integrity.altered(path, "install adaptformer again, or restore the file from git")
    return Source(path, f"{BUNDLED}/{path.name}", sha256)
