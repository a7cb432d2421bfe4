"""The command line: `adaptformer COMMAND`. It starts fast, because each command imports what it needs when it runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from adaptformer import interruption

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from adaptformer.commands.parsing import Parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1 after two lines of cause and remedy, 2 for a refused model.

    Without `arguments` it is the command of this process: its own, and Ctrl-C is one line from here to its end.
    """
    if arguments is None:
        interruption.at_once()
    import logging  # from here on, since imports take a while

    from adaptformer import progress
    from adaptformer.commands import exit_code

    given = _parser().parse_args(arguments)
    logging.basicConfig(format="%(message)s", handlers=[progress.Lines()])
    logging.getLogger("adaptformer").setLevel(logging.INFO)  # of other libraries, only warnings
    return exit_code.of(lambda: _run(given), traceback=given.traceback)


def _run(given: argparse.Namespace) -> int | None:
    """Run a command; before one that reads data/, an interrupted change of data/ is completed or taken back."""
    if getattr(given, "reads_data", True):
        from adaptformer.dataset_import import settling

        settling.settle()
    code: int | None = given.command(given)
    return code


def _parser() -> Parser:
    from adaptformer.commands import data, models, registry, stages, tracking
    from adaptformer.commands.parsing import Parser

    parser = Parser(prog="adaptformer", description="Adapt a pretrained Vision Transformer to your images.")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for group in (data, stages, models, registry, tracking):
        group.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
