"""Flips: one bit of a file that a command reads back is turned, its size and times stay, and the command is run.

Nothing may come of that but a refusal, the same answer, or a file that is made anew.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from pathlib import Path

from adaptformer.__main__ import main
from tests.faults import processes, projects, table
from tests.faults.projects import Projects
from tests.faults.table import Table


@dataclass(frozen=True)
class Reader:
    """A command that reads files back: the files (patterns below the checkout), the state that it starts from."""

    words: tuple[str, ...]
    state: str
    patterns: tuple[str, ...]
    last_words: bool = False

    def call(self) -> int:
        """Run the command in this process."""
        return main(list(self.words))


_undisturbed: dict[Reader, object] = {}
FEATURES = "artifacts/cache/**/*"
INPUTS = ("artifacts/manifest.csv", "artifacts/backbone.*", FEATURES)
READERS = (
    Reader(("predict", "more", "--csv"), "exported", ("artifacts/model.onnx", "artifacts/model.onnx.data"), True),
    Reader(("validate",), "exported", ("artifacts/cache/*", "artifacts/backbone.*")),
    Reader(("train",), "exported", INPUTS),
    Reader(("train",), "stopped", ("artifacts/resume*",)),
    Reader(("evaluate",), "exported", (*INPUTS, "artifacts/adapter.*", "artifacts/history.csv")),
    Reader(("export",), "exported", (*INPUTS, "artifacts/adapter.*")),
    Reader(("data", "label-errors"), "exported", INPUTS),
    Reader(("inspect", "artifacts/adapter.safetensors"), "exported", ("artifacts/adapter.safetensors",), True),
    Reader(("data", "relabel", "--undo"), "relabelled", ("artifacts/relabelled.csv*",)),
    Reader(("run", "--stages-only", "--own-folder"), "own", ("artifacts/runs/**/*",)),
    Reader(("predict", "more", "--output", "answers", "--workers", "1"), "answered", ("answers/**/*",)),
)
SLOW = {"predict more --output answers --workers 1"}
"""Readers that start processes are tried rarely."""


def one(made: Projects, dice: random.Random, results: Table) -> None:
    """Turn one bit of one file, run one of its readers, and count what came of it."""
    reader = dice.choices(READERS, [0.1 if " ".join(one.words) in SLOW else 1 for one in READERS])[0]
    wanted = _wanted(made, reader)
    root = made.fresh(reader.state)
    pattern = dice.choice(reader.patterns)
    below = [path for path in sorted(root.glob(pattern)) if path.is_file() and path.stat().st_size]
    found = [path for path in below if path.name not in projects.UNSTABLE or path.name == "facts.npz"]
    if not found:
        made.done_with(root)
        return
    path = dice.choice(found)
    name, bit = path.relative_to(root).as_posix(), dice.randrange(path.stat().st_size * 8)
    whole = path.read_bytes()
    flip(path, bit)
    broken = path.read_bytes()
    ended = processes.run(reader.call, root)
    reached = _result(reader, root, ended, name)
    told = f"bit {bit} of {name}, then `adaptformer {' '.join(reader.words)}`: {ended.code}: "
    subject = f"{_kind(name)} → {' '.join(reader.words[:2])}"
    if ended.traceback or ended.code not in {0, 1, 2}:
        results.add("flip", subject, table.TRACEBACK, told + ended.printed[-1500:])
    elif ended.code and processes.says_error(ended.printed):
        results.add("flip", subject, table.REFUSED, "")
    elif ended.code or reached != _without(wanted, name):
        results.add("flip", subject, table.SILENT, told + ended.printed[-300:])
    else:
        now = path.read_bytes() if path.is_file() else whole
        results.add("flip", subject, table.IDENTICAL if now == broken else table.HEALED, "")
    made.done_with(root)


def flip(path: Path, bit: int) -> None:
    """Turn one bit of a file in place; size and times stay."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _kind(name: str) -> str:
    """Return what a file is called in the table: names of hashes are left out."""
    parts = Path(name).parts[1:] if name.startswith("artifacts/") else Path(name).parts
    shown = ["…" if len(part.split(".")[0]) >= 12 and not part.isalpha() else part for part in parts]
    return "/".join(shown)


def _wanted(made: Projects, reader: Reader) -> object:
    if reader not in _undisturbed:
        root = made.fresh(reader.state)
        _undisturbed[reader] = _result(reader, root, made.must(reader.call, root), "")
        made.done_with(root)
    return _undisturbed[reader]


def _result(reader: Reader, root: Path, ended: processes.Ended, broken: str) -> object:
    """Return the files that a command leaves, but for the broken one, and what it prints if that is its answer."""
    found = projects.content(root)
    found.pop(broken, None)
    return found, ended.printed if reader.last_words else ""


def _without(wanted: object, name: str) -> object:
    assert isinstance(wanted, tuple)
    return {key: value for key, value in wanted[0].items() if key != name}, wanted[1]
