"""The command line: `adaptformer COMMAND`. It starts fast, because each command imports what it needs when it runs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from adaptformer import progress, streams
from adaptformer.commands import completion, data, exit_code, models, registry, stages, tracking
from adaptformer.commands.parsing import CommandParser, Version


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1 after two lines of cause and remedy, 2 for a refused model."""
    streams.prepare()
    given = _parser().parse_args(arguments)
    _log(given.quiet, given.verbose)
    return exit_code.of(lambda: given.command(given), traceback=given.traceback)


def _log(quiet: bool, verbose: bool) -> None:
    """Choose the lines that go to standard error: the library's, and of other libraries only warnings, if not told."""
    form = "%(asctime)s %(name)s: %(message)s" if verbose else "%(message)s"
    logging.basicConfig(format=form, handlers=[progress.Lines()], level=logging.INFO if verbose else logging.WARNING)
    logging.getLogger("adaptformer").setLevel(logging.WARNING if quiet else logging.INFO)
    if quiet:
        progress.hush()


def _parser() -> CommandParser:
    parser = CommandParser(
        first=True, prog="adaptformer", description="Adapt a pretrained Vision Transformer to your images."
    )
    parser.add_argument("--version", action=Version, help="print the version and exit")
    parser.set_defaults(command=lambda _given: parser.print_help())
    commands = parser.add_subparsers(metavar="COMMAND")
    for group in (data, stages, models, registry, tracking):
        group.add(commands)
    completion.add(commands, parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
