"""`python -m flows COMMAND`: a flow in this process, without a lasting server or a worker.

Everything that needs no Prefect is a command of `adaptformer`.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from adaptformer.base import interruption
from flows import ROOT

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from adaptformer.cli.parsing import Parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command in the checkout's root and return its exit code; by default with this process's arguments."""
    if arguments is None:
        interruption.at_once()
    from adaptformer.base import streams  # only now, because imports take a while
    from adaptformer.cli import exit_code
    from adaptformer.curation.importing import settling

    streams.prepare()

    given = exit_code.parsed(_parser(), arguments)
    os.chdir(ROOT)

    def command() -> None:
        settling.settle()
        given.command(given)

    return exit_code.run_command(command)


def _parser() -> Parser:
    from adaptformer.cli.parsing import Parser, add_methods, add_overrides, add_search

    parser = Parser(prog="python -m flows", description="Run a flow here, on a temporary Prefect server.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="bring the whole pipeline up to date, track and register it (`make run`)")
    run.add_argument("--register", action="store_true", help="also register the model of a run with overrides")
    add_overrides(run)
    run.set_defaults(command=_run)

    compared = commands.add_parser("compare", help="compare methods on the same data (`make compare`)")
    add_methods(compared)
    compared.set_defaults(command=_compare)

    swept = commands.add_parser("sweep", help="search values of params.yaml by trials (`make sweep`)")
    add_search(swept)
    swept.set_defaults(command=_sweep)
    return parser


def _run(given: argparse.Namespace) -> None:
    from adaptformer.config.params import parse_overrides
    from flows.local import run

    run(given.preset, parse_overrides(given.overrides), True if given.register else None)


def _compare(given: argparse.Namespace) -> None:
    from adaptformer.config.params import parse_overrides
    from adaptformer.config.run_folder import RunFolder
    from flows.local import make_sample_if_missing, on_temporary_server

    make_sample_if_missing(RunFolder())
    with on_temporary_server("make-compare"):
        from flows.compare import compare

        compare(given.method, given.seed, parse_overrides(given.overrides))


def _sweep(given: argparse.Namespace) -> None:
    from adaptformer.config.params import parse_overrides
    from adaptformer.config.run_folder import RunFolder
    from flows.local import make_sample_if_missing, on_temporary_server

    make_sample_if_missing(RunFolder())
    with on_temporary_server("make-sweep"):
        from flows.sweep import sweep

        sweep(given.search, given.trials, parse_overrides(given.overrides))


if __name__ == "__main__":
    sys.exit(main())
