from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from pathlib import Path

import mite
import pytest
import torch
from small_runs import RESTLESS, run

from adaptformer.training import draws, loop
from adaptformer.training import prefetch as prefetching
from adaptformer.training.draws import Draws
from adaptformer.training.prefetch import MicroBatch, prefetch
from adaptformer.training.run import Run


def test_items_come_in_order_from_another_thread() -> None:
    makers = set()

    def items() -> Iterator[int]:
        for number in range(20):
            makers.add(threading.get_ident())
            yield number

    assert list(prefetch(items())) == list(range(20))
    assert makers
    assert threading.get_ident() not in makers


def test_the_thread_works_on_the_gpu_of_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[tuple[int, int]] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(torch.cuda, "set_device", lambda gpu: chosen.append((threading.get_ident(), gpu)))
    makers: list[int] = []
    assert list(prefetch(makers.append(threading.get_ident()) for _ in range(2))) == [None, None]  # type: ignore[func-returns-value]
    assert chosen == [(makers[0], 3)]


def test_no_more_are_made_than_are_due() -> None:
    made: list[int] = []
    taken = prefetch((made.append(number) or number for number in range(100)), count=2)  # type: ignore[func-returns-value]
    assert next(taken) == 0
    taken.close()  # type: ignore[attr-defined]
    assert len(made) <= 1 + 2 + 2  # the one taken, two that wait, one in hand, and one made before the end is seen


def test_a_full_queue_waits_for_whoever_takes_the_items(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(queue.Queue[object]):
        """Has no room at the first attempt to put each item."""

        tried: set[object] = set()  # noqa: RUF012

        def put(self, item: object, block: bool = True, timeout: float | None = None) -> None:
            assert timeout is not None  # or nobody would see that the iterator was left
            if item not in self.tried:
                self.tried.add(item)
                raise queue.Full
            super().put(item, block, timeout)

    monkeypatch.setattr(prefetching.queue, "Queue", Full)
    assert list(prefetch(iter(range(5)))) == list(range(5))


@pytest.mark.parametrize("held", [True, False])
def test_a_gpu_gets_batches_from_pinned_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: bool) -> None:
    pinned: list[torch.Tensor] = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(self) or self)
    made = run(tmp_path, device=torch.device("cuda"))
    made.activation_cache.depth = int(held)
    images = torch.arange(6)
    boxes = torch.tensor([[0, 0, 8, 8, 0]]).expand(6, 5)
    (batch,) = draws.micro_batches(made, Draws(images, boxes, None, None, 6))
    assert batch.numbers.tolist() == images.tolist()
    assert batch.labels.tolist() == made.data.train.labels[:6].tolist()
    assert batch.weights.sum() == pytest.approx(1)
    assert (batch.pixels is None) == held
    expected = [batch.labels, batch.weights, *([] if held else [batch.pixels])]
    assert {id(tensor) for tensor in pinned} == {id(tensor) for tensor in expected}


def test_errors_are_raised_where_the_items_are_taken() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ZeroDivisionError

    taken = prefetch(items())
    assert next(taken) == 1
    with pytest.raises(ZeroDivisionError):
        next(taken)


def test_the_thread_ends_with_an_iterator_that_is_left_early() -> None:
    before = threading.active_count()
    taken = prefetch(iter(range(1000)))
    next(taken)
    taken.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_a_run_prepared_ahead_ends_with_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    plain = run(tmp_path / "plain", model=RESTLESS, gradient_accumulation=2)
    rows, _ = loop.train(plain)
    used: list[int] = []
    threaded = run(tmp_path / "threaded", model=RESTLESS, gradient_accumulation=2)
    micro_batches = draws.micro_batches

    def pretend(made: Run, step: Draws) -> list[MicroBatch]:
        used.append(threading.get_ident())
        return micro_batches(made, step)

    monkeypatch.setattr(draws, "micro_batches", pretend)
    monkeypatch.setattr(draws, "PREFETCHING_DEVICES", {"cpu"})
    assert loop.train(threaded)[0] == rows
    assert mite.tuned_hash(threaded.model) == mite.tuned_hash(plain.model)
    assert threading.get_ident() not in used
    assert len(used) == sum(1 for _ in rows) * 2
