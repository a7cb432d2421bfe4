"""Full disks: a command works on a small tmpfs that has room for a part of its files; with more room it goes on."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path

from tests.faults import kills, processes, table
from tests.faults.projects import CASES, Projects
from tests.faults.table import Table

PAGE = 4096
ENOUGH = 256 << 20


def possible() -> bool:
    """Return whether file systems can be mounted here."""
    return os.geteuid() == 0 and shutil.which("mount") is not None


def one(made: Projects, dice: random.Random, results: Table) -> None:
    """Run one command with too little room, then with enough, and count what came of it."""
    case = dice.choice([case for case in CASES if not case.registry and case.weight > 1])
    wanted, _ = kills.undisturbed(made, case)
    source = made.state(case.state)
    grown = _grown(made, case.state, case.name)
    used = _pages(source)
    root = made.folder / "disk/checkout"
    root.parent.mkdir(exist_ok=True)
    size = used + 64 + dice.randrange(max(grown, 1))  # pages
    try:
        _mount("-t", "tmpfs", "-o", f"size={size * PAGE},mode=755", "tmpfs", str(root.parent))
    except subprocess.CalledProcessError:
        return
    try:
        try:
            shutil.copytree(source, root)
        except (OSError, shutil.Error):
            return  # not even that fits
        full = processes.run(case.call, root.parent / root.name)
        _mount("-o", f"remount,size={ENOUGH}", str(root.parent))
        again = full if full.code == 0 else processes.run(case.call, root)
        told = f"{size * PAGE:,} bytes: {full.code}: {full.printed[-1500:]}"
        if full.traceback or full.code not in {0, 1}:
            outcome = table.TRACEBACK
        elif again.code or kills.result(case, root, again) != wanted:
            outcome, told = table.SILENT, f"{told}\n  with room: {again.code}: {again.printed[-800:]}"
        else:
            outcome = table.REFUSED if full.code else table.IDENTICAL
        results.add("full disk", case.name, outcome, told)
    finally:
        subprocess.run(["umount", "-l", str(root.parent)], check=False, capture_output=True)


_pages_grown: dict[str, int] = {}


def _grown(made: Projects, state: str, name: str) -> int:
    """Return how many pages a command adds to its checkout."""
    if name not in _pages_grown:
        root = made.fresh(state)
        case = next(case for case in CASES if case.name == name)
        made.must(case.call, root)
        _pages_grown[name] = _pages(root) - _pages(made.state(state))
        made.done_with(root)
    return _pages_grown[name]


def _pages(root: Path) -> int:
    """Return how many pages of a tmpfs the files below a folder take."""
    return sum(-(-path.lstat().st_size // PAGE) + 1 for path in root.rglob("*"))


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)
