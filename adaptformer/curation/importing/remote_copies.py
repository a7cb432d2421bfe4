"""Images from shards and buckets, copied to a folder on this machine before they are imported."""

from __future__ import annotations

import os
from pathlib import Path

from adaptformer.base import progress
from adaptformer.base.errors import UserError
from adaptformer.base.names import ignored, stored
from adaptformer.curation.importing import class_folders, shards
from adaptformer.curation.importing.listing import Image, LeftOut, Listing
from adaptformer.curation.importing.shard_image import FORM, Sample
from adaptformer.data import storage
from adaptformer.data.decoding import DamagedImage


def unpacked(source: str, folder: Path, limit: int) -> Listing:
    """Return the images of all shards of a source, written to `folder`; an image above `limit` bytes gets a fault.

    Raises UserError for shards that cannot be read to their end, and if only some shard names contain a split.
    """
    locations = shards.locations(source)
    splits = [shards.split(shard) for shard in locations]
    if None in splits and any(splits):
        without = locations[splits.index(None)]
        raise UserError(
            f"the name of {without} contains no split, but those of other shards do", "rename it, or import it alone"
        )
    images: list[Image] = []
    taken: set[tuple[str, str, str]] = set()
    for shard, split in zip(progress.steps(locations, "unpacking", len(locations), "shards"), splits, strict=True):
        for sample in shards.samples(shard, limit):
            path = folder / str(len(images))
            if not sample.fault:
                path.write_bytes(sample.content)
            name = _name(sample, split or "", taken)
            place = f"{sample.row or f'{sample.name}.{sample.ending}'} in {shard}"
            images.append(Image(path, sample.label, place, name, split or "", "", sample.fault))
    if not images:
        raise UserError(f"{source} holds no images", FORM)
    return Listing(source, images)


def _name(sample: Sample, split: str, taken: set[tuple[str, str, str]]) -> str:
    """Return the name of a sample's file: its own, with a number if the class has a file of that name in the split."""
    # A key's folders are part of its name: two shards may have the same file name in different ones.
    stem = sample.name.strip("./").replace("/", "_") or "image"
    name, number = stored(f"{stem}.{sample.ending}"), 1
    while (split, sample.label, name) in taken:
        number += 1
        name = stored(f"{stem}-{number}.{sample.ending}")
    taken.add((split, sample.label, name))
    return name


def downloaded(source: str, folder: Path, limit: int) -> Listing:
    """Return the images of class folders in a bucket, copied to `folder`; an image above `limit` bytes gets a fault."""
    root = _without_scheme(source)
    objects = list(storage.walk(source, hidden=True))
    if not objects:
        raise UserError(f"{source} holds no files", "check the address, and whether you may list it")
    left_out: list[LeftOut] = []
    faults: dict[str, str] = {}
    for location in progress.steps(objects, "downloading", len(objects), "images"):
        place = _without_scheme(location)[len(root) :].strip("/")
        parts = place.split("/")
        if any(ignored(part) or part in {"", "."} for part in parts):
            left_out.append(LeftOut(place, "hidden, or of a system or a photo program"))
            continue
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.write_bytes(storage.read_image(location, limit))
        except DamagedImage as error:
            path.touch()
            faults[os.fspath(path)] = str(error)
    listing = class_folders.images_of(folder)
    images = [image._replace(fault=faults.get(os.fspath(image.path), "")) for image in listing.images]
    return Listing(source, images, [*left_out, *listing.left_out], listing.remarks)


def _without_scheme(url: str) -> str:
    return url.partition("://")[2].strip("/")
