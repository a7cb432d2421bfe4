"""What the doors that start a flow in their own process share: errors as two lines, and a temporary Prefect server."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

from adaptformer.errors import UserError
from tasks.checkout import ROOT


def opened(body: Callable[[], int]) -> int:
    """Run `body` in the checkout's root and return its exit code; of a UserError cause and remedy, and 1."""
    os.chdir(ROOT)
    try:
        return body()
    except UserError as error:
        print(f"error: {error.cause}\n  fix: {error.remedy}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on where it was", file=sys.stderr)
        return 130


@contextlib.contextmanager
def temporary_server(*tags: str) -> Iterator[None]:
    """Let flows that are called in the body use a server of this process, whose files lie inside the checkout.

    Import flows within the body only: Prefect reads its environment as it is imported.
    """
    os.environ.setdefault("PREFECT_HOME", str(ROOT / ".prefect"))
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    import prefect.main  # sets logging up as it is imported: before the console is made plain
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows import logs

    logs.plain_console()
    # Not PREFECT_API_URL= (empty): that counts as a server for Prefect's events, and task runs get lost.
    with temporary_settings(restore_defaults={PREFECT_API_URL}), prefect.tags("adaptformer", *tags):
        yield
