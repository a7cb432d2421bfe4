"""The variables of the process that dependencies read."""

from __future__ import annotations

import os

import pytest

from adaptformer.base import environment

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((None, None), ("PASSIVE", "5000")),
        ((None, "70"), ("PASSIVE", "70")),
        (("PASSIVE", None), ("PASSIVE", None)),  # threads that sleep at once
        (("ACTIVE", None), ("ACTIVE", None)),
    ],
)
def test_waiting_threads_spin_shortly_unless_the_user_has_chosen(
    monkeypatch: pytest.MonkeyPatch, given: tuple[str | None, ...], expected: tuple[str | None, ...]
) -> None:
    for name, value in zip(NAMES, given, strict=True):
        monkeypatch.setenv(name, "")  # so that it is restored after the test
        monkeypatch.delenv(name)
        if value is not None:
            monkeypatch.setenv(name, value)
    for _ in range(2):
        environment.prepare()
        assert tuple(os.environ.get(name) for name in NAMES) == expected
