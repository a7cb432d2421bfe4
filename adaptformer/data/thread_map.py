"""Parallel work on many files, with results in order and a bounded number of them waiting."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_AHEAD = 8
"""Items per thread that are begun or done before the caller takes the first: enough to bridge a slow one."""


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(work: Callable[[T], R], items: Iterable[T], threads: int = 0) -> Iterator[R]:
    """Yield `work(item)` for each item, in order, computed by `threads` threads; 0 means one per core.

    Threads help because Pillow releases the GIL while it decodes. Items are consumed as results are taken, so only a
    few of either are in memory. An exception from `work` is raised here, and no further item is begun. Closing the
    iterator early does not wait: work that has begun runs to its end in the background.
    """
    threads = threads or cores()
    waiting: deque[Future[R]] = deque()
    pool, wait = ThreadPoolExecutor(threads), True
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) == _AHEAD * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except GeneratorExit:
        # The garbage collector may close an abandoned iterator, in any thread and at any moment. If it runs in a thread
        # that is just starting, which holds a lock of `threading`, waiting for threads here would be a deadlock.
        wait = False
        raise
    finally:
        pool.shutdown(wait=wait, cancel_futures=True)
