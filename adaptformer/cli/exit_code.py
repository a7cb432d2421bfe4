"""The end of every command: its exit code, and the lines that it prints if it fails."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import traceback as tracebacks
from collections.abc import Callable, Sequence
from types import TracebackType

from adaptformer.base import files, interruption, names
from adaptformer.base.errors import UserError, without_credentials
from adaptformer.cli import extras

REFUSED = 2
"""The gate refused a model: an answer, not a failure."""


def run_command(body: Callable[[], int | None], *, traceback: bool = False) -> int:
    """Run `body` and return its exit code, 0 for None.

    A UserError is printed as two lines and gives 1, or is raised if its `traceback` is wanted; the same goes for any
    other exception caused by a full or read-only disk. Ctrl-C and SIGTERM print one line and give 130 and 143. If the
    reader of the output, such as `head`, stops reading, that is not a failure; if the output cannot be written, it is.
    """
    sys.excepthook = _show
    try:
        with interruption.in_one_line():
            code = _flushed(body) or 0
    except BrokenPipeError:
        _give_up_output()
        return 0
    except UserError as error:
        if traceback:
            raise
        return failed(error)
    except ModuleNotFoundError as error:
        if traceback or (missing := extras.refusal(error)) is None:
            raise
        return failed(missing)
    except KeyboardInterrupt:
        print(interruption.line(), file=sys.stderr)
        return interruption.exit_code()
    except Exception as error:
        if traceback or (refused := files.refusal(error)) is None:
            raise
        return failed(refused)
    return code


def parsed(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the parsed arguments; after --help the parser exits, with 1 if the help cannot be written."""
    try:
        try:
            return parser.parse_args(arguments)
        except SystemExit:
            sys.stdout.flush()
            raise
    except BrokenPipeError:
        _give_up_output()
        sys.exit(0)
    except OSError as error:
        sys.exit(failed(_unwritable(error)))


def _flushed(body: Callable[[], int | None]) -> int | None:
    """Run the body and flush its output. Raises UserError if standard output cannot be written any more."""
    try:
        code = body()
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.filename is not None or not _output_fails():
            raise
        raise _unwritable(error) from error
    return code


def _output_fails() -> bool:
    """Return whether standard output fails: neither the rest of the failed print nor an empty line can be written."""
    try:
        print(flush=True)
    except OSError:
        return True
    return False


def _unwritable(error: OSError) -> UserError:
    _give_up_output()
    return UserError(
        f"standard output cannot be written: {error.strerror or error}",
        "free space where it goes, then run the same command again",
    )


def _give_up_output() -> None:
    """Discard the remaining output; otherwise the flush at exit would fail once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def failed(error: UserError) -> int:
    """Print cause and remedy on standard error, after the error's notes, and return the exit code 1."""
    lines = [*getattr(error, "__notes__", ()), f"error: {error.cause}", f"  fix: {error.remedy}"]
    with contextlib.suppress(OSError):  # a full standard error changes no exit code
        print(without_credentials("\n".join(map(names.shown, lines))), file=sys.stderr)
    return 1


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an exception that no one caught as Python does, but without credentials."""
    text = "".join(tracebacks.format_exception(kind, error, trace))
    print(without_credentials(text), end="", file=sys.stderr)
