"""Processes of this machine that die: a job that makes progress goes on, one that makes none is given up."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from adaptformer.base.errors import UserError
from adaptformer.sharding import engines


@dataclass(frozen=True)
class Outcome:
    shard: int


def dying_once(folder: Path, shard: int) -> Outcome:
    """End the process the first time that a shard is asked for."""
    met = folder / f"{shard}"
    if not met.exists():
        met.touch()
        os._exit(9)
    return Outcome(shard)


def dying(_folder: Path, _shard: int) -> Outcome:
    os._exit(9)


def test_a_job_goes_on_as_long_as_it_makes_progress(tmp_path: Path) -> None:
    shards = engines.STARTS + 2
    done = engines.local(functools.partial(dying_once, tmp_path), range(shards), 1)
    assert sorted(outcome.shard for outcome in done) == list(range(shards))


def test_a_job_without_progress_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"died {engines.STARTS} times"):
        list(engines.local(functools.partial(dying, tmp_path), range(2), 1))
