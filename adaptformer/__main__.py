"""The command line: `adaptformer COMMAND`. It starts fast, because each command imports its modules when it runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from adaptformer.base import environment, interruption

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from adaptformer.cli.parsing import CommandParser

environment.prepare()  # before a command imports what reads it


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1 after two lines of cause and remedy, 2 for a refused model.

    Without `arguments`, run the command line of this process; Ctrl-C then prints one line, from here to the end.
    """
    if arguments is None:
        interruption.at_once()
    from adaptformer.base import streams  # only now, because imports take a while
    from adaptformer.cli import exit_code

    streams.prepare()
    given = exit_code.parsed(_parser(), arguments)
    _log(given.quiet, given.verbose)
    return exit_code.run_command(lambda: _run(given), traceback=given.traceback)


def _run(given: argparse.Namespace) -> int | None:
    """Run a command; before one that reads data/, an interrupted change of data/ is completed or taken back."""
    if getattr(given, "reads_data", True):
        from adaptformer.curation.importing import settling

        settling.settle()
    code: int | None = given.command(given)
    return code


def _log(quiet: bool, verbose: bool) -> None:
    """Choose the log lines for standard error: by default this library's, and only warnings of other libraries."""
    import logging

    from adaptformer.base import progress

    form = "%(asctime)s %(name)s: %(message)s" if verbose else "%(message)s"
    logging.basicConfig(format=form, handlers=[progress.Lines()], level=logging.INFO if verbose else logging.WARNING)
    logging.getLogger("adaptformer").setLevel(logging.WARNING if quiet else logging.INFO)
    if quiet:
        progress.hush()


def _parser() -> CommandParser:
    from adaptformer.cli import completion, data, fit, models, projects, registry, stages, tracking
    from adaptformer.cli.parsing import CommandParser, Version

    parser = CommandParser(
        first=True, prog="adaptformer", description="Adapt a pretrained Vision Transformer to your images."
    )
    parser.add_argument("--version", action=Version, help="print the version and exit")
    parser.set_defaults(command=lambda _given: parser.print_help())
    commands = parser.add_subparsers(metavar="COMMAND")
    for group in (projects, data, fit, stages, models, registry, tracking):
        group.add(commands)
    completion.add(commands, parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
