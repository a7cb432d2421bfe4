"""Relabelling of images in data/ from a CSV file, and its undo.

The moves are kept in a list, so that the last relabelling can be undone to the same bytes and paths. The list is part
of the change of data/: both are written or neither.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adaptformer.base import csv_file, files, progress
from adaptformer.base.errors import UserError
from adaptformer.base.names import one_form, quoted, shown
from adaptformer.config.params import DataParams
from adaptformer.curation.importing import growth, move_list
from adaptformer.curation.importing.copying import free_name
from adaptformer.curation.importing.replacement import Change, replacing_folder
from adaptformer.data import layout
from adaptformer.data.layout import Entry

COLUMNS = ("path", "new_label")
"""The columns that are read: an image's path below data/, and its right class, or nothing if the label is right."""

_FORMAT = (
    "give the columns path (below data/) and new_label, as in the file that `adaptformer data label-errors` writes"
)


@dataclass(frozen=True)
class Relabelling:
    """Result of a relabelling: numbers of images by (class before, class after), and `frozen`.

    `frozen` is the number of images moved from train to data/validation/. Images that `validate` has chosen for
    validation so far are moved there, because other labels would change that choice.
    """

    changed: dict[tuple[str, str], int]
    frozen: int

    def lines(self) -> list[str]:
        """Return the result as lines for the terminal."""
        pairs = sorted(self.changed.items(), key=lambda pair: (-pair[1], pair[0]))
        lines = [f"relabelled {sum(self.changed.values()):,} images; every image kept its split"]
        lines += [f"  {before} -> {after}: {count:,}" for (before, after), count in pairs]
        if self.frozen:
            lines.append(growth.frozen_line(self.frozen))
        return lines


def relabel(source: Path, data: Path, params: DataParams, journal: Path, request: str = "") -> Relabelling:
    """Move each image that has a `new_label` in the CSV file `source` to the folder of that class in its split.

    `data` changes as a whole or not at all, together with the CSV file `journal`, which lists the moves; `request` is
    the command line. Raises one UserError about all unusable lines, with a note for each further one, and if there is
    nothing to change.
    """
    present, faults = layout.entries(data) if data.is_dir() else ([], {})
    if faults or not present:
        raise UserError(f"{data}/ is empty or has faults", "run `adaptformer validate` first, and do what it says")
    new_labels = _wanted(source, present)
    read = progress.steps(present, "reading data/", len(present), "images")
    hashes = {entry: files.sha256_file(data / entry.path) for entry in read}
    sides, frozen = growth.with_validation(present, hashes, params)
    taken = {
        (split, entry.label, Path(entry.path).name.casefold())
        for entry, split in sides.items()
        if entry.path not in new_labels
    }
    places = {}
    for entry, split in sides.items():
        label = new_labels.get(entry.path, entry.label)
        name = Path(entry.path).name
        places[entry.path] = f"{split}/{label}/{free_name(name, split, label, taken) if label != entry.label else name}"
    moved = {before: after for before, after in places.items() if before != after}
    listed = move_list.extended(journal, move_list.read(journal), moved)
    labels = {entry.path: entry.label for entry in present}
    relabelling = Relabelling(dict(Counter((labels[path], label) for path, label in new_labels.items())), frozen)
    inputs = files.sha256_file(source)
    change = Change(request, inputs, tuple(relabelling.lines()), files=listed, once=bool(request))
    with replacing_folder(data, lambda: change) as new_data:
        growth.link(data, new_data, places)
    return relabelling


def undo(data: Path, journal: Path, request: str = "") -> list[str]:
    """Undo the last relabelling and return lines for the terminal: how many images got their old labels back.

    `request` is the command line. Raises UserError if there is no relabelling, or if images are no longer in the places
    that it moved them to.
    """
    moves, listed = move_list.last(journal, move_list.read(journal), "relabelling")
    places = move_list.places_before(data, moves, "relabelling", ", or relabel by a file with the old labels")
    pairs = zip(moves["before"], moves["after"], strict=True)
    count = sum(before.split("/")[1] != after.split("/")[1] for before, after in pairs)
    lines = [f"restored the labels of {count:,} images, and the place of every image"]
    change = Change(request, "", tuple(lines), files=listed, once=bool(request))
    with replacing_folder(data, lambda: change) as new_data:
        growth.link(data, new_data, places)
    return lines


def _wanted(source: Path, present: Sequence[Entry]) -> dict[str, str]:
    """Return the new class of each image that gets one, by path."""
    try:
        table = csv_file.read(source)
    except (OSError, ValueError) as error:
        raise UserError(f"{source} cannot be read: {' '.join(str(error).split())}", _FORMAT) from error
    if not set(COLUMNS) <= set(table):
        raise UserError(f"{source} has the columns {', '.join(map(str, table))}", _FORMAT)
    labels = {entry.path: entry.label for entry in present}
    classes = sorted(set(labels.values()))
    new_labels: dict[str, str] = {}
    faults = []
    for line, (path, new) in enumerate(zip(table["path"], table["new_label"].str.strip(), strict=True), start=2):
        label = one_form(new)
        if not label:
            continue
        if path not in labels:
            faults.append(f"line {line}: no image {shown(path)}")
        elif label not in classes:
            near = difflib.get_close_matches(label, classes, 1)
            faults.append(f"line {line}: no class {quoted(label)}" + (f" (is it {near[0]!r}?)" if near else ""))
        elif new_labels.setdefault(path, label) != label:
            faults.append(f"line {line}: {shown(path)} has two new labels")
    if faults:
        more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        refused = UserError(f"{source}, {faults[0]}{more}", "correct these lines; nothing was changed")
        for fault in faults[1:]:
            refused.add_note(fault)
        raise refused
    changed = {path: label for path, label in new_labels.items() if label != labels[path]}
    if not changed:
        raise UserError(f"{source} changes no label", "write the right class of an image into its column new_label")
    return changed
