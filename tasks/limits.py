"""Prefect's global concurrency limits: `gpu` for training, `promotion` for the gate."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from prefect import get_run_logger
from prefect.concurrency.sync import concurrency
from prefect.settings import get_current_settings

from adaptformer.base.errors import UserError

TEMPORARY = "ADAPTFORMER_TEMPORARY_SERVER"
"""The environment variable that is set if the server in use ends with this process."""


@contextlib.contextmanager
def slot(limit: str, patience: float | None = 600) -> Iterator[None]:
    """Hold a place of a global concurrency limit, `gpu` or `promotion`, if a lasting server is in use.

    Wait at most `patience` seconds for the place (None: without limit). Raises UserError after that.

    A temporary server would keep the place of a killed run for ever; with it, file locks serialise the runs anyway.
    """
    if TEMPORARY in os.environ or not get_current_settings().api.url:
        yield
        return
    logger = get_run_logger()
    logger.info("Waiting for the concurrency limit %s", limit)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(concurrency(limit, lease_duration=60, timeout_seconds=patience))
        except TimeoutError as error:
            raise UserError(
                f"other runs have kept the concurrency limit `{limit}` for ten minutes",
                f"run the same command again later; `prefect global-concurrency-limit inspect {limit}` shows the limit",
            ) from error
        yield
