import os
import threading
from collections.abc import Iterator

import pytest

from adaptformer.data import thread_map
from adaptformer.data.thread_map import in_order


def test_results_come_in_the_order_of_the_items() -> None:
    later = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            assert later.wait(60)  # the first is done last
        elif item == 5:
            later.set()
        return item * item

    assert list(in_order(work, range(100))) == [item * item for item in range(100)]


def test_items_are_taken_only_as_results_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_map, "cores", lambda: 2)
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(10_000):
            taken.append(item)
            yield item

    results = in_order(str, items())
    assert not taken
    for count in range(1, 101):
        next(results)
        assert len(taken) == count - 1 + 16  # eight for each thread
    results.close()
    assert len(taken) == 115


def test_an_error_is_raised_in_its_place_and_ends_the_work() -> None:
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        return 1 // (item - 3)

    results = in_order(work, range(10_000))
    assert [next(results) for _ in range(3)] == [-1, -1, -1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert len(begun) < 10_000


def test_an_iterator_that_is_given_up_waits_for_no_thread() -> None:
    """The garbage collector closes it in any thread: a thread that was just starting waited for itself for ever."""
    released, begun = threading.Event(), threading.Event()

    def work(item: int) -> int:
        if item:
            begun.set()
            assert released.wait(60)
        return item

    results = in_order(work, range(100), 2)
    assert next(results) == 0
    assert begun.wait(60)
    closing = threading.Thread(target=results.close, daemon=True)
    closing.start()
    closing.join(20)
    waited = closing.is_alive()
    released.set()
    assert not waited


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system has no CPU affinity: Linux runs this")
def test_only_the_cores_that_the_process_may_use_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {3, 5, 8})
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert thread_map.cores() == 3
