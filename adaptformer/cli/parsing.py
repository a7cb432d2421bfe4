"""Parts of the parser that several commands share."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from adaptformer.base import names
from adaptformer.base.errors import without_credentials

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

    from adaptformer.config.params import Params, ParamsFile

    Commands = argparse._SubParsersAction["CommandParser"]

_OF_ALL = {
    "traceback": "show where an error came from",
    "quiet": "print only results, warnings and errors: no progress, no log lines",
    "verbose": "also print the log lines of the libraries, each with its time",
}


class Parser(argparse.ArgumentParser):
    """Exits with 1 on a wrong call: argparse itself uses 2, which here means that the gate refused a model."""

    def error(self, message: str) -> NoReturn:
        """Print the fault and the command's usage, and exit."""
        usage = " ".join(self.format_usage().removeprefix("usage: ").split())
        self.exit(1, f"error: {names.shown(message)}\n  fix: call it as {usage}\n")

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        """Print a message; unlike argparse, do not hide a failure to print."""
        (file or sys.stderr).write(without_credentials(message))


class CommandParser(Parser):
    """Accepts the common options before and after a command's name; only the first parser lists them."""

    def __init__(self, *, first: bool = False, **settings: Any) -> None:
        super().__init__(**settings)
        self._mixing = False
        for name, text in _OF_ALL.items():
            self.add_argument(
                f"--{name}",
                action="store_true",
                default=False if first else argparse.SUPPRESS,
                help=text if first else argparse.SUPPRESS,
            )

    def parse_known_args(  # type: ignore[override]
        self, args: Any = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse a command's arguments in any order: argparse itself takes overrides only in one place.

        It takes `fit PHOTOS` with no overrides, and refuses those behind the next option as unknown.
        """
        if self._mixing or self._subparsers is not None:
            return super().parse_known_args(args, namespace)
        self._mixing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._mixing = False


class Version(argparse.Action):
    """Looks up the version only when it is asked for, prints it and exits."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_given: object) -> NoReturn:
        """Print the version of the installed package."""
        from importlib import metadata

        try:
            version = metadata.version("adaptformer")
        except metadata.PackageNotFoundError:  # code that is only on the path
            version = "of an unknown version: it is not installed"
        print(f"adaptformer {version}")
        parser.exit()


def add_model_option(command: argparse.ArgumentParser) -> None:
    """Give a command the option that names the model to use (registry/model_choice.py)."""
    command.add_argument(
        "--model", help="champion, v3, models:/NAME@ALIAS, or a file (default: the champion, else artifacts/model.onnx)"
    )


def add_overrides(command: argparse.ArgumentParser) -> None:
    """Give a command the options that replace values of params.yaml."""
    command.add_argument(
        "--preset", action="append", default=[], metavar="NAME", help="use the values of this preset (repeatable)"
    )
    _add_values(command, "use this value: training.epochs=3")


def _add_values(command: argparse.ArgumentParser, text: str) -> None:
    command.add_argument("overrides", nargs="*", default=[], type=override, metavar="KEY=VALUE", help=text)


def add_offline(command: argparse.ArgumentParser) -> None:
    """Give a command the option that switches downloads of checkpoints off."""
    command.add_argument(
        "--offline", action="store_true", help="download no checkpoint: it must be on this machine (HF_HUB_OFFLINE=1)"
    )


def stay_offline(given: argparse.Namespace) -> None:
    """Switch downloads off for this process if the command line says so; the hub's client reads the same variable."""
    if getattr(given, "offline", False):
        os.environ["HF_HUB_OFFLINE"] = "1"


def add_methods(command: argparse.ArgumentParser) -> None:
    """Give a command the options for the methods to compare."""
    command.add_argument("--method", action="append", metavar="'PRESET… KEY=VALUE…'", help="repeatable")
    command.add_argument("--seed", action="append", type=int, help="repeatable")
    _add_values(command, "for all methods, such as training.epochs=3")


def add_search(command: argparse.ArgumentParser) -> None:
    """Give a command the options for the values that a sweep searches."""
    command.add_argument("--search", action="append", metavar="'KEY=VALUES'", help="4,8 or '0.1..1.0 log'; repeatable")
    command.add_argument("--trials", type=positive, help="number of trials")
    _add_values(command, "for all trials, such as training.epochs=3")


def resolved(given: argparse.Namespace) -> tuple[ParamsFile, Params]:
    """Return params.yaml, and its params with the presets and overrides of the command line."""
    from adaptformer import presets
    from adaptformer.config import params

    return presets.resolve(given.preset, params.parse_overrides(given.overrides))


def options(given: argparse.Namespace) -> list[str]:
    """Return presets and overrides as they were given: the remedy of an error repeats them."""
    return [*(word for preset in given.preset for word in ("--preset", preset)), *given.overrides]


def positive(text: str) -> int:
    """Return an argument as a whole number of at least 1."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def share(text: str) -> float:
    """Return an argument as a share: above 0 and at most 1."""
    if not 0 < (value := float(text)) <= 1:
        raise argparse.ArgumentTypeError("must be above 0 and at most 1")
    return value


def override(text: str) -> str:
    """Return an argument that replaces a value of params.yaml as it was given; its key is looked up later."""
    if "=" not in text:
        raise argparse.ArgumentTypeError(f"{text} is not of the form section.key=value")
    return text
