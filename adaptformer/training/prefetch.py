"""The micro-batches of a training step, and their transfer to the device.

Shapes: B images of a micro-batch, s model side.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

PREFETCHED = 2
"""Number of steps that are prepared while the GPU computes the current one."""


@dataclass(frozen=True)
class MicroBatch:
    """The `numbers` of images or of fixed crops [B], their labels [B] and their shares in the loss of the step [B].

    `pixels` are the crops [B, s, s, 3] uint8, or None if the outputs of frozen blocks are cached. `total` is the number
    of images in this micro-batch over all processes.
    """

    numbers: Tensor
    labels: Tensor
    weights: Tensor
    pixels: Tensor | None
    total: int

    def to(self, device: torch.device) -> MicroBatch:
        """Return the batch on the device; copies from pinned memory overlap with the GPU's computation."""
        labels, weights = (tensor.to(device, non_blocking=True) for tensor in (self.labels, self.weights))
        pixels = None if self.pixels is None else self.pixels.to(device, non_blocking=True)
        return MicroBatch(self.numbers, labels, weights, pixels, self.total)

    def pinned(self) -> MicroBatch:
        """Return the batch in pinned memory, from which a GPU can copy by itself."""
        pixels = None if self.pixels is None else self.pixels.pin_memory()
        return MicroBatch(self.numbers, self.labels.pin_memory(), self.weights.pin_memory(), pixels, self.total)


def prefetch(items: Iterable[T], count: int = PREFETCHED) -> Iterator[T]:
    """Yield `items` in order, computed by a thread that is at most `count` items ahead; its errors are raised here.

    The thread ends with the iterator, even if the iterator is closed early.
    """
    made: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(count)
    left = threading.Event()
    # A new thread uses the first GPU by default: pinning memory there would open a context on it in every process.
    gpu = torch.cuda.current_device() if torch.cuda.is_initialized() else None

    def put(entry: tuple[T | None, BaseException | None]) -> bool:
        while not left.is_set():
            try:
                made.put(entry, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def make() -> None:
        try:
            if gpu is not None:
                torch.cuda.set_device(gpu)
            for item in items:
                if not put((item, None)):
                    return
        except BaseException as error:
            put((None, error))
        else:
            put((None, StopIteration()))

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        while True:
            item, error = made.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]
    finally:
        left.set()
        thread.join()
