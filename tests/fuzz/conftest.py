"""Hostile input, drawn by hypothesis: every case ends in a result or in the one error that a user may see.

`make fuzz` draws CASES=100000 of each kind, new ones each time; `make test` a few, always the same ones.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

MANY = "FUZZ_CASES" in os.environ
CASES = int(os.environ.get("FUZZ_CASES", "25"))
MEMORY = 2**30
"""Bytes by which a test's memory may grow."""

settings.register_profile(
    "fuzz",
    max_examples=CASES,
    derandomize=not MANY,
    deadline=None,  # other processes share the machine
    database=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
    # A failure is shown as it was drawn: to look for a smaller one takes minutes.
    phases=[Phase.explicit, Phase.generate] + ([Phase.shrink] if "FUZZ_SHRINK" in os.environ else []),
)
settings.load_profile("fuzz")


@pytest.fixture(autouse=True)
def _bounded_memory() -> Iterator[None]:
    """Let a test's address space grow by MEMORY at most."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all cases of a file: hypothesis runs a test's cases within one call of its fixtures."""
    return tmp_path_factory.mktemp("fuzz")


def pytest_report_header(config: Any) -> str:
    return f"fuzz: {CASES:,} cases of each kind, {'new ones' if MANY else 'always the same ones'}"
