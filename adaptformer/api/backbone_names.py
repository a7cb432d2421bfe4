"""A backbone by its short name: the values of params.yaml that choose it, and those that photos of its size need."""

from __future__ import annotations

import difflib

from adaptformer import presets
from adaptformer.backbones import catalogue
from adaptformer.backbones.catalogue import Entry
from adaptformer.base.errors import UserError

_START = "photos"
"""The preset for backbones that were pretrained on photos: their image size, crops and optimiser."""
_PHOTO_SIZE, _PHOTO_CROP = 224, 0.875
_FILE, _HUB = "file:", "hub:"


def backbone_overrides(name: str) -> dict[str, object]:
    """Return the values, by dotted key, that choose a backbone by name.

    `name` is that of a preset with a backbone (`photos`), an entry of `adaptformer backbones` by its id, its model or a
    short form of either (`dinov2-small`, `bundled`), `hub:REPOSITORY`, or `file:PATH`, to which the key backbone.model
    must be added. A backbone for photos of 224 pixels or more comes with the values of the preset `photos`. Raises
    UserError for an unknown name.
    """
    if name.startswith(_FILE):
        return {**presets.overlay([_START]), "backbone.checkpoint": name.removeprefix(_FILE), "backbone.sha256": None}
    if name.startswith(_HUB):
        model = name.removeprefix(_HUB).partition("@")[0].rpartition("/")[2]
        overrides = {"backbone.model": model, "backbone.checkpoint": name, "backbone.sha256": None}
        return {**presets.overlay([_START]), **overrides}
    if name in presets.available() and "backbone.checkpoint" in (values := presets.overlay([name])):
        return values if "training.epochs" in values else {**presets.overlay([_START]), **values}
    return _of_entry(_found(name))


def short_names() -> list[str]:
    """Return the short name of each entry of the catalogue, such as `dinov2-small`."""
    return [_short(entry.id) for entry in catalogue.ENTRIES]


def _of_entry(entry: Entry) -> dict[str, object]:
    overrides: dict[str, object] = {
        "backbone.model": entry.model,
        "backbone.checkpoint": entry.id,
        "backbone.sha256": None,
    }
    if entry.image_size < _PHOTO_SIZE:
        return {"image.size": entry.image_size, "image.crop_fraction": 1.0, **overrides}
    return {**presets.overlay([_START]), "image.size": _PHOTO_SIZE, "image.crop_fraction": _PHOTO_CROP, **overrides}


def _found(name: str) -> Entry:
    """Return the entry of a name. Raises UserError, with the most similar name, if there is none."""
    names = {known: entry for entry in catalogue.ENTRIES for known in (entry.id, entry.model, _short(entry.id))}
    entry = names.get(name) or names.get(_short(name))
    if entry is None:
        close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}?" if close else f"give one of {', '.join(short_names())}, {_HUB}… or {_FILE}…"
        raise UserError(f"there is no backbone {name}", hint)
    return entry


def _short(name: str) -> str:
    """Return a name without what all backbones share: `dinov2_vit_small` as `dinov2-small`."""
    return name.lower().replace("_", "-").replace("-vit-", "-")
