"""The command line: `adaptformer COMMAND`. It starts fast, because each command imports what it needs when it runs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from adaptformer import progress
from adaptformer.commands import data, exit_code, models, registry, stages, tracking
from adaptformer.commands.parsing import Parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1 after two lines of cause and remedy, 2 for a refused model."""
    logging.basicConfig(format="%(message)s", handlers=[progress.Lines()])
    logging.getLogger("adaptformer").setLevel(logging.INFO)  # of other libraries, only warnings
    given = exit_code.parsed(_parser(), arguments)
    return exit_code.of(lambda: given.command(given), traceback=given.traceback)


def _parser() -> Parser:
    parser = Parser(prog="adaptformer", description="Adapt a pretrained Vision Transformer to your images.")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for group in (data, stages, models, registry, tracking):
        group.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
