"""`adaptformer completion SHELL`: a script that lets a shell complete commands, options and files."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from adaptformer.errors import UserError

if TYPE_CHECKING:
    from adaptformer.commands.parsing import Commands, Parser

SHELLS = ("bash", "zsh", "tcsh")


def add(commands: Commands, whole: Parser) -> None:
    """Add the command to the parser, whose commands it completes."""
    completion = commands.add_parser("completion", help="print a script that completes this command in your shell")
    completion.add_argument("shell", choices=SHELLS, help="docs/usage.md says where to put it")
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
    """Let the arguments that are paths be completed as such: shtab reads an attribute of each action."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _complete_files(command, how)
        elif action.type is Path or action.metavar in {"PATH", "DIR", "FILE"}:
            action.complete = how  # type: ignore[attr-defined]
