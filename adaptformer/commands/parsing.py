"""Parts of the parser that several commands share."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, NoReturn

from adaptformer.errors import without_credentials

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

    from adaptformer.params import Params, ParamsFile

    Commands = argparse._SubParsersAction["Parser"]


class Parser(argparse.ArgumentParser):
    """Exits with 1 on a wrong call: 2, argparse's own choice, means that the gate refused a model."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and how to call the command."""
        usage = " ".join(self.format_usage().removeprefix("usage: ").split())
        self.exit(1, f"error: {message}\n  fix: call it as {usage}\n")

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        """Print a message; argparse itself hides that it could not."""
        (file or sys.stderr).write(without_credentials(message))


def add_overrides(command: argparse.ArgumentParser) -> None:
    """Give a command the options that replace values of params.yaml."""
    command.add_argument(
        "--preset", action="append", default=[], metavar="NAME", help="use the values of this preset (repeatable)"
    )
    command.add_argument(
        "overrides", nargs="*", type=override, metavar="KEY=VALUE", help="use this value: tuning.epochs=3"
    )


def add_methods(command: argparse.ArgumentParser) -> None:
    """Give a command the options that say which methods are compared."""
    command.add_argument("--method", action="append", metavar="'PRESET… KEY=VALUE…'", help="repeatable")
    command.add_argument("--seed", action="append", type=int, help="repeatable")
    command.add_argument(
        "overrides", nargs="*", type=override, metavar="KEY=VALUE", help="for all methods, such as tuning.epochs=3"
    )


def add_search(command: argparse.ArgumentParser) -> None:
    """Give a command the options that say what a sweep searches."""
    command.add_argument("--search", action="append", metavar="'KEY=VALUES'", help="4,8 or '0.1..1.0 log'; repeatable")
    command.add_argument("--trials", type=positive, help="number of trials")
    command.add_argument(
        "overrides", nargs="*", type=override, metavar="KEY=VALUE", help="for all trials, such as tuning.epochs=3"
    )


def resolved(given: argparse.Namespace) -> tuple[ParamsFile, Params]:
    """Return params.yaml, and its params with the presets and overrides of the command line."""
    from adaptformer import params, presets

    return presets.resolve(given.preset, params.parse_overrides(given.overrides))


def options(given: argparse.Namespace) -> list[str]:
    """Return presets and overrides as they were given: the remedy of an error repeats them."""
    return [*(word for preset in given.preset for word in ("--preset", preset)), *given.overrides]


def positive(text: str) -> int:
    """Return an argument as a number from 1 on."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def share(text: str) -> float:
    """Return an argument as a probability."""
    if not 0 < (value := float(text)) <= 1:
        raise argparse.ArgumentTypeError("must be above 0 and at most 1")
    return value


def override(text: str) -> str:
    """Return an argument that replaces a value of params.yaml as it was given; its key is looked up later."""
    if "=" not in text:
        raise argparse.ArgumentTypeError(f"{text} is not of the form section.key=value")
    return text
