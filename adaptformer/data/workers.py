"""Work on many files at once: results in order, and never more than a few of them waiting."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_AHEAD = 8
"""Items a thread that are begun or done before the caller takes the first: enough to outlast a slow one."""


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(work: Callable[[T], R], items: Iterable[T], threads: int = 0) -> Iterator[R]:
    """Yield `work(item)` for each item, in order, from so many threads: Pillow releases the GIL while it decodes.

    0 threads are one a core.

    Items are taken as results are, so neither a long queue nor many results are ever in memory. What `work` raises is
    raised here, and nothing is begun after it. An iterator that is not used up waits for nothing when it is closed;
    work that was begun goes on to its end.
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
        # The garbage collector may close an abandoned iterator, in any thread and at any moment. Waiting for threads
        # there is a deadlock if it runs in a thread that is just starting, which holds a lock of `threading`.
        wait = False
        raise
    finally:
        pool.shutdown(wait=wait, cancel_futures=True)
