"""Newer files of the installed package for a project, with the user's changes kept: `adaptformer init --update`."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from adaptformer.base import files, yaml_text
from adaptformer.base.errors import UserError
from adaptformer.config import params, renamed
from adaptformer.pipeline import library_version
from adaptformer.pipeline.library_version import LibraryVersion
from adaptformer.presets import writing
from adaptformer.project import sources

PARAMS = "params.yaml"
State = Literal["same", "new", "newer", "both changed", "removed"]
"""How a file of a project and the package's compare: `newer` is the package's alone, `both changed` the user's too."""


@dataclass(frozen=True)
class FileUpdate:
    """One file: its text in the project (None if absent), the text that the package brings, and how they compare."""

    name: str
    present: str | None
    brought: str
    state: State

    def diff(self) -> str:
        """Return the change from the project's text to the package's, as `diff -u` shows it."""
        before, after = (self.present or "").splitlines(), self.brought.splitlines()
        return "\n".join(difflib.unified_diff(before, after, self.name, f"{self.name} (adaptformer)", lineterm=""))


def update(root: Path, accept: Collection[str] = (), keep: Collection[str] = ()) -> list[str]:
    """Bring newer files into the project `root` and return lines on them, diffs included.

    A file that the user changed stays, unless `accept` names it: then its former text goes to a file beside it. `keep`
    names files that stay and are not shown again until the package has yet another text. Raises UserError if the folder
    is no project, or if such a name is no file that both sides changed.
    """
    if (recorded := library_version.read(root)) is None:
        raise UserError(
            f"{root} is no project of `adaptformer init`: it has no {library_version.FILE}",
            "name the folder of a project, or make one: `adaptformer init DIR`",
        )
    texts = sources.texts()
    planned = [_planned(root, name, text, recorded.files.get(name)) for name, text in texts.items()]
    asked = {one.name for one in planned if one.state in {"both changed", "removed"}}
    if unknown := sorted({*accept, *keep} - asked):
        there = f"name one of {', '.join(sorted(asked))}" if asked else "run `adaptformer init --update` without names"
        raise UserError(f"there is nothing to decide about {', '.join(unknown)}", there)
    lines = [line for one in planned for line in _applied(root, one, one.name in accept, one.name in keep)]
    dropped = sorted(name for name in recorded.files.keys() - texts.keys() if (root / name).is_file())
    lines += [f"{name}: adaptformer has no such file any more; it stays here" for name in dropped]
    undecided = asked - {*accept, *keep}
    hashes = {
        name: recorded.files.get(name, "") if name in undecided else files.sha256_text(text)
        for name, text in texts.items()
    }
    return [*lines, *_recorded(root, recorded, replace(library_version.installed(), files=hashes), undecided)]


def _planned(root: Path, name: str, text: str, base: str | None) -> FileUpdate:
    """Return the update of one file; `base` is the hash of the text that the package last brought."""
    path = root / name
    if not path.is_file():
        return FileUpdate(name, None, text, "new" if base is None else _unless_same(text, base, "removed"))
    present = path.read_bytes().decode(errors="replace")
    if files.sha256_text(present) == base:
        return FileUpdate(name, present, text, "same" if present == text else "newer")
    brought = _with_values(text, present) if name == PARAMS else text
    return FileUpdate(
        name, present, brought, "same" if present == brought else _unless_same(text, base, "both changed")
    )


def _unless_same(text: str, base: str | None, state: State) -> State:
    """Return "same" if the package still has the text of `base`, so that only the user changed the file."""
    return "same" if files.sha256_text(text) == base else state


def _with_values(text: str, present: str) -> str:
    """Return the package's params.yaml with the values of the project's, whose keys may have earlier names."""
    try:
        values = params.flat(yaml_text.parse(present))
    except (ValueError, AttributeError):
        return text
    defaults = params.flat(yaml_text.parse(text))
    named = {renamed.present_name(key): value for key, value in values.items()}
    return writing.changed(text, {k: v for k, v in named.items() if k in defaults and v != defaults[k]})


def _applied(root: Path, one: FileUpdate, accepted: bool, kept: bool) -> list[str]:
    """Write what is to be written of one file, and return lines on it."""
    if one.state == "same" or kept:
        return [f"{one.name}: stays as it is here"] if kept else []
    if one.state in {"both changed", "removed"} and not accepted:
        how = "changed here and in adaptformer" if one.state == "both changed" else "removed here, newer in adaptformer"
        choice = f"--accept {one.name} takes it, --keep {one.name} leaves yours and asks no more"
        return [f"{one.name}: {how}, so it stays; {choice}", *([one.diff()] if one.present is not None else [])]
    path = root / one.name
    said = f"{one.name}: {'new' if one.present is None else 'brought in'}"
    with files.refusals(path):
        if one.state == "both changed":
            former = _free(path)
            files.write_bytes(former, path.read_bytes())
            said += f"; the former one is {former.relative_to(root)}"
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(path, one.brought)
    return [said, *([] if one.present is None else [one.diff()])]


def _free(path: Path) -> Path:
    """Return the first name for the former text of a file that no file has: params.yaml.before, .before2."""
    number = 1
    while (former := path.with_name(f"{path.name}.before{number if number > 1 else ''}")).exists():
        number += 1
    return former


def _recorded(root: Path, before: LibraryVersion, present: LibraryVersion, undecided: Collection[str]) -> list[str]:
    """Write library.yaml, last, and return lines on the version, on stages that run again and on what is undecided."""
    path = root / library_version.FILE
    if path.read_text(encoding="utf-8") != present.text():
        files.write_text(path, present.text())
    changed = [name for name, code in present.stages.items() if before.stages.get(name) != code]
    versions = f"adaptformer {present.version}"
    if before.version != present.version:
        versions = f"adaptformer {before.version} -> {present.version}"
    stages = f"other code for {', '.join(changed)}, which the next run runs again" if changed else "no other stage code"
    left = [f"{len(undecided)} to decide: {', '.join(sorted(undecided))}"] if undecided else []
    return [f"{versions}: {stages}", *left]
