"""How every command ends: its exit code, and what it prints when it fails."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from adaptformer import interruption
from adaptformer.errors import UserError

REFUSED = 2
"""The gate refused a model: an answer, not a failure."""
PIPELINE_EXTRA = ("mlflow", "dvc")
"""Packages that only some commands need; the rest of the library runs without them."""


def of(body: Callable[[], int | None], *, traceback: bool = False) -> int:
    """Run `body` and return its exit code, 0 for None.

    A UserError is printed as two lines and gives 1, or is raised if its `traceback` is wanted; Ctrl-C and SIGTERM
    print one line and give 130 and 143. It is no failure if the reader of the output, such as `head`, stops reading.
    """
    try:
        with interruption.in_one_line():
            code = body() or 0
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the flush at exit fails once more
        return 0
    except UserError as error:
        if traceback:
            raise
        return failed(error)
    except ModuleNotFoundError as error:
        if traceback or error.name not in PIPELINE_EXTRA:
            raise
        return failed(UserError(f"{error.name} is not installed", "pip install 'adaptformer[pipeline]'"))
    except KeyboardInterrupt:
        print(interruption.line(), file=sys.stderr)
        return interruption.exit_code()
    return code


def failed(error: UserError) -> int:
    """Print cause and remedy on standard error, after the error's notes, and return the exit code 1."""
    for note in getattr(error, "__notes__", ()):
        print(note, file=sys.stderr)
    print(f"error: {error.cause}\n  fix: {error.remedy}", file=sys.stderr)
    return 1
