"""Engines that distribute a job's shards to processes: of this machine, of Dask or of Ray.

An engine calls `work(shard)` at least once for each shard, and yields the results in any order. Processes that die are
replaced. An exception from `work` is raised here; if processes die again and again, UserError is raised.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from multiprocessing import resource_tracker
from multiprocessing.connection import wait as wait_for_any
from typing import Any, Protocol, TypeVar

from adaptformer.base.errors import UserError
from adaptformer.data import thread_map


class Done(Protocol):
    """The result of `work`, which names its shard."""

    @property
    def shard(self) -> int:
        """The number of the shard."""


D = TypeVar("D", bound=Done)


STARTS = 4
"""How many times in a row processes may be started and die without a shard done, before the job is given up."""
_EACH = 2
"""Shards queued per process: enough for the next one to begin at once, and few to lose if a process dies."""


def local(work: Callable[[int], D], shards: Iterable[int], processes: int, _address: str | None = None) -> Iterator[D]:
    """Use processes of this machine."""
    missing, starts = list(shards), 0
    while starts < STARTS:
        starts += 1
        done: set[int] = set()
        with contextlib.suppress(BrokenProcessPool):
            for outcome in _in_pool(work, missing, processes):
                done.add(outcome.shard)
                yield outcome
        missing = [shard for shard in missing if shard not in done]
        if not missing:
            return
        if done:
            starts = 0
    raise _died(STARTS)


def _in_pool(work: Callable[[int], D], shards: Iterable[int], processes: int) -> Iterator[D]:
    # A command ended by Ctrl-C leaves semaphores, and the resource tracker that removes them would print a warning.
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker")
    # Spawned, because onnxruntime and its threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    resource_tracker.ensure_running()  # started now, because its start would unblock Ctrl-C, which is blocked below
    pool = ProcessPoolExecutor(processes, context, _end_with_the_parent)
    try:
        remaining = iter(shards)
        running = _submitted(pool, work, islice(remaining, _EACH * processes))
        while running:
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            for future in ended:
                yield future.result()
            running |= _submitted(pool, work, islice(remaining, len(ended)))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _submitted(pool: ProcessPoolExecutor, work: Callable[[int], D], shards: Iterable[int]) -> set[Future[D]]:
    """Submit shards to a pool. Processes started for them inherit that Ctrl-C is blocked: the parent handles it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows: the processes ignore Ctrl-C once they have started
        return {pool.submit(work, shard) for shard in shards}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # in this thread; others still receive it
    try:
        return {pool.submit(work, shard) for shard in shards}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_the_parent() -> None:
    """Make this process end when its parent ends, for whatever reason, and ignore Ctrl-C, which the parent handles."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # already blocked here, but not in processes that this one starts
    parent = multiprocessing.parent_process()
    assert parent is not None  # noqa: S101

    def watch() -> None:
        wait_for_any([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def dask(work: Callable[[int], D], shards: Iterable[int], processes: int, address: str | None = None) -> Iterator[D]:
    """Use Dask: the cluster whose scheduler is at `address`, or a local cluster of this machine's processes."""
    # Silences the logs of Dask and its processes; errors reach the user as UserError.
    os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "critical")
    try:
        from distributed import Client, KilledWorker, LocalCluster, as_completed
    except ImportError as error:
        raise _not_installed("dask") from error
    here = {"threads_per_worker": 1, "dashboard_address": "127.0.0.1:0", "memory_limit": 0}
    with contextlib.ExitStack() as open_until_done:
        with _interrupts_ignored_by_children():
            cluster = address or open_until_done.enter_context(LocalCluster(n_workers=processes, **here))
        client = open_until_done.enter_context(Client(cluster))
        futures = client.map(work, list(shards), pure=False)
        try:
            for future in as_completed(futures):
                yield future.result()
                future.release()  # else the scheduler keeps every outcome
        except KilledWorker as error:
            raise _died(error.allowed_failures + 1) from error


@contextlib.contextmanager
def _interrupts_ignored_by_children() -> Iterator[None]:
    """Ignore Ctrl-C during the body. Processes started in it inherit that, and leave Ctrl-C to this process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def ray(work: Callable[[int], D], shards: Iterable[int], processes: int, address: str | None = None) -> Iterator[D]:
    """Use Ray: the cluster at `address` ("auto" finds the one that this machine is part of), or local processes."""
    try:
        import ray as library
    except ImportError as error:
        raise _not_installed("ray") from error
    # Outcomes are small; by default Ray reserves a third of the memory for objects passed between tasks.
    own = {"num_cpus": processes, "include_dashboard": False, "object_store_memory": 100_000_000}
    here: dict[str, Any] = own if address is None else {}
    library.init(address=address or "local", logging_level=logging.ERROR, log_to_driver=False, **here)
    try:
        remote: Any = library.remote(num_cpus=1, max_retries=STARTS - 1)(_called)
        shared = library.put(work)
        remaining = iter(shards)
        places = _EACH * int(library.cluster_resources().get("CPU", processes))
        running = [remote.remote(shared, shard) for shard in islice(remaining, places)]
        while running:
            ended, running = library.wait(running)
            yield from library.get(ended)
            running += [remote.remote(shared, shard) for shard in islice(remaining, len(ended))]
    except library.exceptions.RayTaskError as error:
        raise error.cause from error
    except library.exceptions.WorkerCrashedError as error:
        raise _died(STARTS) from error
    finally:
        library.shutdown()


def _called(work: Callable[[int], D], shard: int) -> D:
    return work(shard)


class _Engine(Protocol):
    def __call__(
        self, work: Callable[[int], D], shards: Iterable[int], processes: int, address: str | None, /
    ) -> Iterator[D]: ...


ENGINES: dict[str, _Engine] = {
    "local": local,
    "dask": dask,
    "ray": ray,
}


@dataclass(frozen=True)
class Engine:
    """The engine: local, dask or ray; its number of processes, 0 for a default; the address of a running cluster."""

    name: str = "local"
    workers: int = 0
    address: str | None = None

    def threads(self, processes: int) -> int:
        """Return the threads of each process: one in a cluster, because its machines are unknown here."""
        return 1 if self.address else max(1, thread_map.cores() // processes)

    def computed(self, work: Callable[[int], D], shards: int, processes: int) -> Iterator[D]:
        """Yield the results of `work` for all shards in any order, computed by this many processes of this machine."""
        return ENGINES[self.name](work, range(shards), processes, self.address)


def _died(times: int) -> UserError:
    return UserError(
        f"the processes that compute shards died {times} times, perhaps because memory ran out",
        "the same command with fewer --workers computes what is missing",
    )


def _not_installed(engine: str) -> UserError:
    return UserError(f"{engine} is not installed", f"pip install 'adaptformer[{engine}]', or choose --engine local")
