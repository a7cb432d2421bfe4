"""The memory of this process and of the machine, in megabytes of a million bytes."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import sys
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def keep_freed() -> None:
    """Let this process keep the memory that it frees for what comes next, where the C library is glibc.

    glibc would give each large tensor back to the system, which then clears every page of the next one: a quarter to a
    third of a training step's time on a CPU (docs/performance.md).
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        return
    library.mallopt(_M_TRIM_THRESHOLD, -1)
    # What is larger than this lives long, and is given back. Older versions take no more than 32 MB here.
    if not library.mallopt(_M_MMAP_THRESHOLD, 2**30):
        library.mallopt(_M_MMAP_THRESHOLD, 2**25)


def give_back_freed() -> None:
    """Give the memory that was kept so back to the system."""
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


def forget_peak() -> None:
    """Let `peak_mb` count from now on, where the system allows it (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_mb() -> float:
    """Return the most memory that this process has had at once, since `forget_peak` if that could be done."""
    try:  # Linux's other figure, ru_maxrss, begins with the peak of the process that started this one
        lines = Path("/proc/self/status").read_text().splitlines()
        return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6, 1)
    except (OSError, StopIteration):
        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3), 1)


def present_mb() -> float:
    """Return the memory that this process has now; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6
    except OSError:
        return 0.0


def free_mb() -> float:
    """Return the memory that this process can still take, of the machine and of its container."""
    bounds = [_available_mb()]
    with contextlib.suppress(OSError, ValueError):  # no control group, or no limit there
        limit, used = (int(Path(f"/sys/fs/cgroup/memory.{name}").read_text()) for name in ("max", "current"))
        bounds.append((limit - used) / 1e6)
    return min(bounds)


def _available_mb() -> float:
    """Return what Linux calls available; elsewhere what POSIX says of physical memory."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) * 1024 / 1e6
    except (OSError, StopIteration):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e6
