"""`adaptformer compare`: methods side by side on the same data and seeds."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from adaptformer.commands.parsing import override

if TYPE_CHECKING:
    from adaptformer.commands.parsing import Commands


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    compare = commands.add_parser("compare", help="train methods on the same data and set them side by side")
    add_options(compare)
    compare.set_defaults(command=_compare)


def add_options(command: argparse.ArgumentParser) -> None:
    """Give a command the options that say what is compared."""
    command.add_argument("--method", action="append", metavar="'PRESET… KEY=VALUE…'", help="repeatable")
    command.add_argument("--seed", action="append", type=int, help="repeatable")
    command.add_argument(
        "overrides", nargs="*", type=override, metavar="KEY=VALUE", help="for all methods, such as tuning.epochs=3"
    )


def _compare(given: argparse.Namespace) -> None:
    from adaptformer import params
    from adaptformer.commands import method_runs

    method_runs.compare(params.read(), given.method, given.seed, params.parse_overrides(given.overrides))
