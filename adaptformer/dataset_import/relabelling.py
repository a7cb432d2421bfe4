"""Give images of data/ another class, as a CSV file says, and take that back.

What was moved is kept in a list of its own, so that the last relabelling can be undone to the same bytes and paths. The
list belongs to the change of data/: both have it or neither.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adaptformer import csv_file, files, progress
from adaptformer.data import layout
from adaptformer.data.layout import Entry
from adaptformer.dataset_import import growth, move_list
from adaptformer.dataset_import.copying import free_name
from adaptformer.dataset_import.replacement import Change, replacing_folder
from adaptformer.errors import UserError
from adaptformer.names import one_form, quoted, shown
from adaptformer.params import DataParams

COLUMNS = ("path", "new_label")
"""The columns that are read: an image's path below data/, and its right class, or nothing where the label is right."""

_FORMAT = "give the columns path (below data/) and new_label, as in the file that `adaptformer data labels` writes"


@dataclass(frozen=True)
class Relabelling:
    """What was done: images by (class before, class after), and how many moved from train to data/validation/.

    Validation is written down where `validate` had chosen it so far: with other labels the choice would be another.
    """

    changed: dict[tuple[str, str], int]
    frozen: int

    def lines(self) -> list[str]:
        """Return it for people."""
        pairs = sorted(self.changed.items(), key=lambda pair: (-pair[1], pair[0]))
        lines = [f"relabelled {sum(self.changed.values()):,} images; every image kept its split"]
        lines += [f"  {before} -> {after}: {count:,}" for (before, after), count in pairs]
        if self.frozen:
            lines.append(growth.frozen_line(self.frozen))
        return lines


def relabel(source: Path, data: Path, params: DataParams, journal: Path, request: str = "") -> Relabelling:
    """Move the images that the CSV file `source` gives a `new_label` to that class's folder of their split.

    `data` changes as a whole or not at all, and the CSV file `journal` gets the moves with it; `request` names the
    command. Raises one UserError about all lines that cannot be used, each a note of it, and where there is nothing to
    change.
    """
    present, faults = layout.entries(data) if data.is_dir() else ([], {})
    if faults or not present:
        raise UserError(f"{data}/ is not as `adaptformer validate` wants it", "run that first, and do what it says")
    wanted = _wanted(source, present)
    read = progress.steps(present, "reading data/", len(present), "images")
    hashes = {entry: files.sha256_file(data / entry.path) for entry in read}
    sides, frozen = growth.with_validation(present, hashes, params)
    taken = {
        (split, entry.label, Path(entry.path).name.casefold())
        for entry, split in sides.items()
        if entry.path not in wanted
    }
    places = {}
    for entry, split in sides.items():
        label = wanted.get(entry.path, entry.label)
        name = Path(entry.path).name
        places[entry.path] = f"{split}/{label}/{free_name(name, split, label, taken) if label != entry.label else name}"
    moved = {before: after for before, after in places.items() if before != after}
    listed = move_list.extended(journal, move_list.read(journal), moved)
    labels = {entry.path: entry.label for entry in present}
    relabelling = Relabelling(dict(Counter((labels[path], label) for path, label in wanted.items())), frozen)
    inputs = files.sha256_file(source)
    change = Change(request, inputs, tuple(relabelling.lines()), files=listed, once=bool(request))
    with replacing_folder(data, lambda: change) as beside:
        growth.link(data, beside, places)
    return relabelling


def undo(data: Path, journal: Path, request: str = "") -> list[str]:
    """Take the last relabelling back and return for people how many images it had given another class.

    `request` names the command. Raises UserError where there is none, or where images that it moved are no longer where
    it put them.
    """
    moves, listed = move_list.last(journal, move_list.read(journal), "relabelling")
    places = move_list.places_before(data, moves, "relabelling", ", or relabel by a file with the old labels")
    pairs = zip(moves["before"], moves["after"], strict=True)
    count = sum(before.split("/")[1] != after.split("/")[1] for before, after in pairs)
    lines = [f"gave {count:,} images their labels back, and every image its place"]
    change = Change(request, "", tuple(lines), files=listed, once=bool(request))
    with replacing_folder(data, lambda: change) as beside:
        growth.link(data, beside, places)
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
    wanted: dict[str, str] = {}
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
        elif wanted.setdefault(path, label) != label:
            faults.append(f"line {line}: {shown(path)} has two new labels")
    if faults:
        more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        refused = UserError(f"{source}, {faults[0]}{more}", "correct these lines; nothing was changed")
        for fault in faults[1:]:
            refused.add_note(fault)
        raise refused
    changed = {path: label for path, label in wanted.items() if label != labels[path]}
    if not changed:
        raise UserError(f"{source} changes no label", "write the right class of an image into its column new_label")
    return changed
