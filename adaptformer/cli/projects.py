"""`adaptformer init`: a project that uses the installed package, and newer files for it."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from adaptformer.base.errors import UserError

if TYPE_CHECKING:
    from adaptformer.cli.parsing import Commands


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    init = commands.add_parser(
        "init", help="make a project: params.yaml, DVC stages, Prefect flows, Makefile; or bring newer files into one"
    )
    init.add_argument("folder", nargs="?", type=Path, metavar="DIR", help="a new or empty folder")
    init.add_argument("--no-git", action="store_true", help="do not make DIR a git repository")
    init.add_argument(
        "--update", action="store_true", help="bring the installed package's files into the project DIR (default: here)"
    )
    init.add_argument(
        "--accept", action="append", default=[], metavar="FILE", help="with --update: take this file, which you changed"
    )
    init.add_argument(
        "--keep", action="append", default=[], metavar="FILE", help="with --update: leave this file, and ask no more"
    )
    init.set_defaults(command=_init, reads_data=False)


def _init(given: argparse.Namespace) -> None:
    if given.update:
        from adaptformer.project import updating

        print("\n".join(updating.update(given.folder or Path(), given.accept, given.keep)))
        return
    if given.accept or given.keep:
        raise UserError("--accept and --keep are about files of an update", "add --update")
    if given.folder is None:
        raise UserError("the project needs a folder", "name a new one: `adaptformer init pets`")
    from adaptformer.project import creating

    print(creating.create(given.folder, git=not given.no_git))
    print(f"next:\n  cd {shlex.quote(str(given.folder))}\n{_NEXT}")


_NEXT = """\
  adaptformer data import ~/photos --model pets     # one folder per class; without it `make run` takes sample digits
  adaptformer params --preset photos --write        # on a CPU: photos-small
  make run"""
