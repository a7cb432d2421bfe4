"""What the system says of this process's memory."""

from __future__ import annotations

import mmap
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from adaptformer.base import memory


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
    files = {"/sys/fs/cgroup/memory.max": "3000000000", "/sys/fs/cgroup/memory.current": "1000000000"}
    monkeypatch.setattr(Path, "read_text", lambda self: files[str(self)])
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: SimpleNamespace(available=4_096_000_000))
    assert memory.free_mb() == 2000
    files["/sys/fs/cgroup/memory.max"] = "max"
    assert memory.free_mb() == 4096


PROGRAM = """
import resource
from adaptformer.base import memory

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(60 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

KEEP
print(*(pages() for _ in range(40)))
print(memory.present_mb())
memory.give_back_freed()
print(memory.present_mb())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that is told to keep freed memory")
def test_memory_that_was_freed_serves_again_until_it_is_given_back() -> None:
    def told(first: str) -> list[list[float]]:
        program = PROGRAM.replace("KEEP", first)
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        return [[float(number) for number in line.split()] for line in done.stdout.splitlines()]

    # At first small pieces may lie between the large ones.
    (first, *later), (kept,), (after,) = told("memory.keep_freed()")
    assert sum(later[-10:]) < first / 2
    assert after < kept - 50
    (first, *later), *_ = told("")
    assert sum(later[-10:]) > 5 * first, "glibc keeps it of itself: keep_freed is of no use any more"


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: object())
    memory.keep_freed()
    memory.give_back_freed()
