"""What the system says of this process's memory."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest

from adaptformer import memory


def test_the_peak_stays_and_can_be_forgotten() -> None:
    # Not by an array: the allocator may keep what it was given.
    with mmap.mmap(-1, 64_000_000) as taken:
        taken.write(b"x" * len(taken))
        at_least = memory.present_mb()
    assert at_least > 64
    peak = memory.peak_mb()
    assert peak >= at_least - 1
    assert peak > memory.present_mb() + 32
    memory.forget_peak()
    assert memory.peak_mb() < peak - 32


def test_a_container_bounds_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "/proc/meminfo": "MemTotal: 9000000 kB\nMemAvailable: 4000000 kB\n",
        "/sys/fs/cgroup/memory.max": "3000000000",
        "/sys/fs/cgroup/memory.current": "1000000000",
    }
    monkeypatch.setattr(Path, "read_text", lambda self: files[str(self)])
    assert memory.free_mb() == 2000
    files["/sys/fs/cgroup/memory.max"] = "max"
    assert memory.free_mb() == 4096
