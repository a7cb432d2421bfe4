"""`adaptformer completion SHELL`: a script with which a shell completes commands, options and files."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from adaptformer.base.errors import UserError

if TYPE_CHECKING:
    from adaptformer.cli.parsing import Commands, Parser

SHELLS = ("bash", "zsh", "tcsh")


def add(commands: Commands, whole: Parser) -> None:
    """Add the command to the parser, whose commands it completes."""
    completion = commands.add_parser("completion", help="print a script with which your shell completes this command")
    completion.add_argument("shell", choices=SHELLS, help="for where to put the script, see docs/usage.md")
    completion.set_defaults(command=lambda given: print(script(whole, given.shell)))


def script(whole: argparse.ArgumentParser, shell: str) -> str:
    """Return the script for a shell. Raises UserError if the package that makes it is missing."""
    try:
        import shtab
    except ModuleNotFoundError as error:
        raise UserError("shtab is not installed", "pip install 'adaptformer[completion]'") from error
    _complete_files(whole, shtab.FILE)
    return str(shtab.complete(whole, shell))


def _complete_files(parser: argparse.ArgumentParser, how: Mapping[str, object]) -> None:
    """Mark arguments that are paths, so that they are completed as paths: shtab reads an attribute of each action."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _complete_files(command, how)
        elif action.type is Path or action.metavar in {"PATH", "DIR", "FILE"}:
            action.complete = how  # type: ignore[attr-defined]
