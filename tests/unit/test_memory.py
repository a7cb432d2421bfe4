"""What the system says of this process's memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adaptformer import memory


def test_the_peak_stays_and_can_be_forgotten() -> None:
    taken = np.ones(64_000_000, dtype=np.uint8)
    at_least = memory.present_mb()
    assert at_least > 64
    del taken
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
