"""Deduplication of data/: moves each group of near duplicates into one split, or keeps one image of each; and undo.

The pairs are those of the last `validate`; a group is a set of images that pairs connect. Moving is the default because
it removes no image, so a wrong pair does no harm. Removed images are kept beside the list of moves.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from adaptformer.base import files, progress
from adaptformer.base.errors import UserError
from adaptformer.config.params import DataParams
from adaptformer.curation.importing import growth, move_list
from adaptformer.curation.importing.copying import free_name
from adaptformer.curation.importing.replacement import Change, replacing_folder
from adaptformer.data import groups, layout
from adaptformer.data.layout import SPLITS, Entry

_WHAT = "deduplication"
_VALIDATE = "run `adaptformer validate`, then the same command again"


@dataclass(frozen=True)
class Places:
    """The list of moved and removed images, and the folder that keeps removed images, one subfolder per run."""

    moves: Path
    removed: Path


@dataclass(frozen=True)
class Deduplication:
    """Result of a deduplication: numbers of moved images by split (before, after), and of removed images by split.

    `conflicts` is the number of groups left unchanged because their images are of several classes; `without` are
    the classes that have no test images any more; `frozen` is the number of images moved from train to
    data/validation/.
    """

    moved: Mapping[tuple[str, str], int]
    removed: Mapping[str, int]
    conflicts: int
    without: tuple[str, ...]
    frozen: int
    places: Places

    def lines(self) -> list[str]:
        """Return the result as lines for the terminal."""
        lines = []
        if self.moved:
            lines.append(f"moved {sum(self.moved.values()):,} images into the split of their near duplicates")
            lines += [f"  {before} -> {after}: {count:,}" for (before, after), count in sorted(self.moved.items())]
        if self.removed:
            counts = ", ".join(f"{self.removed[split]:,} of {split}" for split in SPLITS if split in self.removed)
            lines.append(f"removed {sum(self.removed.values()):,} near duplicates ({counts}): {self.places.removed}/")
        if self.conflicts:
            lines.append(
                f"left {self.conflicts:,} groups unchanged, whose images are of several classes: see the findings"
            )
        if self.without:
            lines.append(f"classes without test images now: {', '.join(self.without)}")
        if self.frozen:
            lines.append(growth.frozen_line(self.frozen))
        return [*lines, f"each image: {self.places.moves}; `adaptformer data dedupe --undo` takes it back"]


def dedupe(
    data: Path,
    pairs: Sequence[tuple[str, str]],
    manifest: pd.DataFrame,
    params: DataParams,
    places: Places,
    *,
    keep_one: bool = False,
    request: str = "",
    inputs: str = "",
) -> Deduplication:
    """Bring each group of near duplicates into one split, or with `keep_one` remove all but one image of each.

    A group goes to train if one of its images is there, else to validation, with all images of the same group
    (`data.group_pattern`): no test image is then a near duplicate of a training image. With `keep_one`, the kept image
    is the largest test image, else the largest one of validation, else of train. `pairs` and `manifest` are those of
    the last `validate`. `data` changes as a whole or not at all. Raises UserError if `data` has changed since then, and
    if there is nothing to do.
    """
    hashes = _hashes(data)
    _require_validated(data, pairs, manifest, hashes)
    splits, frozen = growth.with_validation(list(hashes), hashes, params)
    plan = _keep_one(pairs, splits, manifest) if keep_one else _move(pairs, splits, params)
    if not plan.removed and not plan.moved_to:
        reason = "every group is in one split" if pairs else "the last validation found none"
        raise UserError(
            f"there are no near duplicates to {'remove' if keep_one else 'move'}: {reason}",
            f"nothing to do: {data}/ is unchanged",
        )
    after = {
        entry: plan.moved_to.get(entry.path, split) for entry, split in splits.items() if entry.path not in plan.removed
    }
    _require_enough(data, splits, after)
    result = _result(plan, splits, after, frozen, places)
    paths_after = _places(after)
    changed = {path: new for path, new in paths_after.items() if path != new}
    done = move_list.read(places.moves)
    listed = move_list.extended(places.moves, done, changed | dict.fromkeys(sorted(plan.removed), ""))
    change = Change(request, inputs, tuple(result.lines()), files=listed, once=bool(request))
    with replacing_folder(data, lambda: change) as new_data:
        if plan.removed:
            kept = places.removed / str(move_list.next_number(done))
            shutil.rmtree(kept, ignore_errors=True)  # left by a run that was killed before it changed data/
            growth.link(data, kept, {path: path for path in sorted(plan.removed)})
        growth.link(data, new_data, paths_after)
    return result


@dataclass(frozen=True)
class _Plan:
    """Paths to remove, the new split of each path to move, and the number of groups that stay as they are."""

    removed: frozenset[str]
    moved_to: Mapping[str, str]
    conflicts: int


def _keep_one(pairs: Iterable[tuple[str, str]], splits: Mapping[Entry, str], manifest: pd.DataFrame) -> _Plan:
    """Return the plan that removes all but one image of each group, unless its images are of several classes."""
    split = {entry.path: name for entry, name in splits.items()}
    label = {entry.path: entry.label for entry in splits}
    area = dict(zip(manifest["path"], manifest["width"] * manifest["height"], strict=True))
    connected = _connected(pairs)
    of_one_class = [group for group in connected if len({label[path] for path in group}) == 1]
    removed: set[str] = set()
    for group in of_one_class:
        ranked = sorted(group, key=lambda path: (-SPLITS.index(split[path]), -area[path], path))
        removed.update(ranked[1:])
    return _Plan(frozenset(removed), {}, len(connected) - len(of_one_class))


def _move(pairs: Sequence[tuple[str, str]], splits: Mapping[Entry, str], params: DataParams) -> _Plan:
    """Return the plan that brings each group into the first split that has one of its images."""
    split = {entry.path: name for entry, name in splits.items()}
    moved_to: dict[str, str] = {}
    for group in _connected([*pairs, *_of_one_group(splits, params)]):
        target = min((split[path] for path in group), key=SPLITS.index)
        moved_to |= {path: target for path in group if split[path] != target}
    return _Plan(frozenset(), moved_to, 0)


def _hashes(data: Path) -> dict[Entry, str]:
    """Return the sha256 of each image in data/. Raises UserError if data/ is empty or has faults."""
    present, faults = layout.entries(data) if data.is_dir() else ([], {})
    if faults or not present:
        raise UserError(f"{data}/ is empty or has faults", "run `adaptformer validate` first, and do what it says")
    shown = progress.steps(present, "reading data/", len(present), "images")
    return {entry: files.sha256_file(data / entry.path) for entry in shown}


def _result(
    plan: _Plan, before: Mapping[Entry, str], after: Mapping[Entry, str], frozen: int, places: Places
) -> Deduplication:
    split = {entry.path: name for entry, name in before.items()}
    return Deduplication(
        moved=Counter((split[path], target) for path, target in plan.moved_to.items()),
        removed=Counter(split[path] for path in plan.removed),
        conflicts=plan.conflicts,
        without=tuple(sorted(_labels(before, "test") - _labels(after, "test"))),
        frozen=frozen,
        places=places,
    )


def undo(data: Path, places: Places, request: str = "") -> list[str]:
    """Undo the last deduplication and return lines for the terminal.

    Raises UserError if there is none, if images are no longer in the places that it moved them to, and if a removed
    image is no longer kept.
    """
    moves, listed = move_list.last(places.moves, move_list.read(places.moves), _WHAT)
    before = move_list.places_before(data, moves, _WHAT, "")
    aside = places.removed / str(int(moves["number"].iloc[0]))
    removed = list(moves.loc[moves["after"] == "", "before"])
    if gone := [path for path in removed if not (aside / path).is_file()]:
        raise UserError(
            f"{aside / gone[0]}, the copy of an image removed from {data}/, is gone", "bring it back, or `dvc checkout`"
        )
    line = (
        f"restored {len(removed):,} removed images, and the place of every image"
        if removed
        else "restored the place of every image"
    )
    change = Change(request, "", (line,), files=listed, once=bool(request))
    with replacing_folder(data, lambda: change) as new_data:
        growth.link(data, new_data, before)
        growth.link(aside, new_data, {path: path for path in removed})
    return [line]


def _require_validated(
    data: Path, pairs: Iterable[tuple[str, str]], manifest: pd.DataFrame, hashes: Mapping[Entry, str]
) -> None:
    """Raise UserError unless the images of the pairs are unchanged since the last validation."""
    there = {entry.path: sha256 for entry, sha256 in hashes.items()}
    validated = dict(zip(manifest["path"], manifest["sha256"], strict=True))
    for path in sorted({path for pair in pairs for path in pair}):
        if path not in there or there[path] != validated.get(path):
            raise UserError(f"{data / path} has changed since the last validation", _VALIDATE)


def _connected(pairs: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Return the groups of images that pairs connect, each sorted, in the order of their first members."""
    group_of: dict[str, list[str]] = {}
    for one, other in pairs:
        first, second = group_of.setdefault(one, [one]), group_of.setdefault(other, [other])
        if first is not second:
            smaller, larger = sorted((first, second), key=len)
            larger += smaller
            group_of |= dict.fromkeys(smaller, larger)
    return sorted(sorted(group) for group in {id(group): group for group in group_of.values()}.values())


def _of_one_group(sides: Mapping[Entry, str], params: DataParams) -> list[tuple[str, str]]:
    """Return pairs that connect the images of each `data.group_pattern`, because a group stays in one split."""
    entries = list(sides)
    first: dict[str, str] = {}
    members = zip(entries, groups.of(map(growth.below_split, entries), params.group_pattern), strict=True)
    return [(first.setdefault(group, entry.path), entry.path) for entry, group in members if group]


def _require_enough(data: Path, before: Mapping[Entry, str], after: Mapping[Entry, str]) -> None:
    """Raise UserError if no test image would be left, or no training image of a class."""
    if _labels(before, "test") and not _labels(after, "test"):
        raise UserError(
            f"no test image would be left in {data}/", "add test images of other photos first, or --keep-one"
        )
    if without := sorted(_labels(before, "train") - _labels(after, "train")):
        raise UserError(
            f"no training image of {without[0]} would be left in {data}/",
            "leave --keep-one out, which moves images instead",
        )


def _labels(sides: Mapping[Entry, str], split: str) -> set[str]:
    return {entry.label for entry, side in sides.items() if side == split}


def _places(after: Mapping[Entry, str]) -> dict[str, str]:
    """Return the new path of each image by its old one; an image that changes its split may need another name there."""
    taken = {
        (split, entry.label, Path(entry.path).name.casefold()) for entry, split in after.items() if entry.split == split
    }
    places = {}
    for entry, split in after.items():
        name = Path(entry.path).name
        free = name if entry.split == split else free_name(name, split, entry.label, taken)
        places[entry.path] = f"{split}/{entry.label}/{free}"
    return places
