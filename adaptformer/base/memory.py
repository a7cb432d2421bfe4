"""Memory of this process and of the machine, in megabytes (a million bytes)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def keep_freed() -> None:
    """Make this process keep freed memory for later use, if the C library is glibc.

    glibc would give the memory of each large tensor back to the system, which then clears every page of the next one.
    That takes a quarter to a third of a training step's time on a CPU (docs/performance.md).
    """
    library = _c_library()
    if not hasattr(library, "mallopt"):
        return
    library.mallopt(_M_TRIM_THRESHOLD, -1)
    # Blocks larger than this live long and are given back. Older versions of glibc accept at most 32 MB here.
    if not library.mallopt(_M_MMAP_THRESHOLD, 2**30):
        library.mallopt(_M_MMAP_THRESHOLD, 2**25)


def give_back_freed() -> None:
    """Give the memory that `keep_freed` has kept back to the system."""
    library = _c_library()
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


def _c_library() -> Any:
    """Return the functions of the C library that runs this process; on Windows there is none by no name."""
    return ctypes.CDLL(None) if os.name == "posix" else None


def forget_peak() -> None:
    """Make `peak_mb` count from now on, if the system allows it (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_mb() -> float:
    """Return the most memory that this process has held at once, since `forget_peak` if that had an effect."""
    try:  # Linux's other figure, ru_maxrss, begins with the peak of the process that started this one
        lines = Path("/proc/self/status").read_text().splitlines()
        return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6, 1)
    except (OSError, StopIteration):
        return round(_peak_elsewhere() / 1e6, 1)


def _peak_elsewhere() -> int:
    """Return the peak in bytes on systems other than Linux."""
    now = psutil.Process().memory_info()
    if hasattr(now, "peak_wset"):  # Windows, which has no module `resource`; on macOS psutil has no peak
        return int(now.peak_wset)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def present_mb() -> float:
    """Return the memory that this process holds now."""
    return float(psutil.Process().memory_info().rss / 1e6)


def free_mb() -> float:
    """Return the memory that this process can still take, within the limits of the machine and of its container."""
    bounds = [psutil.virtual_memory().available / 1e6]
    with contextlib.suppress(OSError, ValueError):  # no control group, or no limit there
        limit, used = (int(Path(f"/sys/fs/cgroup/memory.{name}").read_text()) for name in ("max", "current"))
        bounds.append((limit - used) / 1e6)
    return float(min(bounds))
