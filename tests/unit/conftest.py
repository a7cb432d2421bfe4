"""What the tests of the library share, so that none leaves a trace in the next."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    """Put back what the library sets for the whole process: torch's threads and the level of its logger."""
    logger = logging.getLogger("adaptformer")
    level = logger.level
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch else 0
    yield
    logger.setLevel(level)
    if torch:
        torch.set_num_threads(threads)
