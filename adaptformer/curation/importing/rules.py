"""Rules for the images of any source: names, splits, equal bytes, and the faults that `validate` would find."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import pandas as pd

from adaptformer.base.errors import UserError
from adaptformer.base.names import refuse_class_names, shown
from adaptformer.curation.checks import faults
from adaptformer.curation.importing.listing import Image, LeftOut, Listing
from adaptformer.data.image_facts import MIN_SIDE, ImageFacts
from adaptformer.data.manifest import COLUMNS

_LISTED = 20
_ORDER = ("train", "validation", "test")
"""Of equal images in several splits, the one in the last of these splits is kept."""


def checked(listing: Listing) -> Listing:
    """Return the images of a source, those without a split assigned to train, if their classes and splits are valid.

    Raises one UserError about all invalid class names, and one if there are splits but no train.
    """
    usable = [image for image in listing.images if not image.fault]
    refuse_class_names(image.label for image in usable)
    named = {image.split for image in usable} - {""}
    if named and not named & {"train"} and all(image.split for image in usable):
        raise UserError(
            f"{listing.source} has the split {sorted(named)[0]}, and no image is in train", "add images for training"
        )
    return listing._replace(images=[image._replace(split=image.split or "train") for image in listing.images])


def refuse_few_classes(listing: Listing) -> None:
    """Raise UserError if the images are of one class, unless some are unusable: those are reported first."""
    labels = sorted({image.label for image in listing.images})
    if len(labels) == 1 and not any(image.fault for image in listing.images):
        raise UserError(f"{listing.source} holds one class, {labels[0]!r}", "add a folder with images of another class")


def contradictions(images: Sequence[Image], hashes: Sequence[str]) -> dict[int, LeftOut]:
    """Return the images that contradict others with the same bytes, by index, with the reason.

    Equal images in several classes are all left out. Of equal images in several splits, the one in the last split of
    _ORDER is kept.
    """
    alike: dict[str, list[int]] = defaultdict(list)
    for index, sha256 in enumerate(hashes):
        alike[sha256].append(index)
    wrong: dict[int, LeftOut] = {}
    for indices in alike.values():
        labels = {images[index].label for index in indices}
        last = max((images[index].split for index in indices), key=_ORDER.index)
        for index in indices:
            image = images[index]
            other = next((images[i].place for i in indices if images[i].label != image.label), "")
            if len(labels) > 1:
                wrong[index] = LeftOut(image.place, f"the same bytes are in another class: {shown(other)}")
            elif image.split != last:
                wrong[index] = LeftOut(image.place, f"the same bytes are in {last}")
    return dict(sorted(wrong.items()))


def refuse_contradictions(listing: Listing, wrong: Iterable[LeftOut]) -> None:
    """Raise one UserError about images with the same bytes in several classes or splits, with a note for each."""
    reasons = [shown(f"{place}: {reason}") for place, reason in wrong]
    if not reasons:
        return
    more = f", and {len(reasons) - 1} more" if len(reasons) > 1 else ""
    error = UserError(
        f"images of {listing.source} contradict each other: {reasons[0]}{more}",
        "keep each image in one class and one split, or leave those out with --skip-bad",
    )
    for line in reasons[:_LISTED]:
        error.add_note(line)
    raise error


def refuse_faulty_images(
    images: Sequence[Image],
    facts: Sequence[ImageFacts],
    sides: Sequence[str],
    names: Sequence[str],
    group: str | None,
    there: Sequence[tuple[str, str, str, str]] = (),
) -> None:
    """Raise UserError if `validate` would find a fault in these images, whose splits and file names are decided.

    So an import never makes a data/ that the next command refuses. `group` is the pattern of groups. Faults that the
    images `there` already (path, class, split, sha256) have without the new ones are not reported.
    """
    rows = [
        {"path": f"{side}/{image.label}/{name}", "label": image.label, "split": side, **known._asdict()}
        for image, known, side, name in zip(images, facts, sides, names, strict=True)
    ]
    before = [
        {"path": path, "label": label, "split": split, "width": MIN_SIDE, "height": MIN_SIDE, "mode": "?", "bytes": 1,
         "sha256": sha256}
        for path, label, split, sha256 in there
    ]  # fmt: skip
    faulty = faults.across_rows(pd.DataFrame.from_records([*rows, *before], columns=list(COLUMNS)), group)
    if before:
        old = faults.across_rows(pd.DataFrame.from_records(before, columns=list(COLUMNS)), group)
        known = set(old[["path", "fault"]].itertuples(index=False, name=None))
        faulty = faulty[[pair not in known for pair in faulty[["path", "fault"]].itertuples(index=False, name=None)]]
    if faulty.empty:
        return
    places = {row["path"]: image.place for row, image in zip(rows, images, strict=True)}
    lines = [
        shown(f"{places.get(path, path)}: {fault} ({detail})")
        for path, fault, detail, _ in faulty.itertuples(index=False)
    ]
    kinds = Counter(faulty["fault"])
    more = f" and {len(lines) - 1} more ({', '.join(kinds)})" if len(lines) > 1 else ""
    error = UserError(f"`validate` would refuse these images: {lines[0]}{more}", str(faulty.iloc[0]["remedy"]))
    for line in lines[:_LISTED] if len(lines) > 1 else []:
        error.add_note(line)
    raise error
