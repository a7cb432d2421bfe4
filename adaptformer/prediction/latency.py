"""Latency of the exported model on this machine at this moment: none of it belongs in a result file."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from adaptformer.base import randomness
from adaptformer.prediction.predictor import Predictor

BATCH = 32
_WARM_UP = 2
_LEAST = 3
_ROUNDS = 25
"""Number of rounds; each runs both models twice."""
_SECONDS = 2.0
"""Time limit per model: after it no further run starts, unless there were fewer than `_LEAST`."""


def latency_ms(predictor: Predictor, runs: int = 20) -> float:
    """Return a model's median milliseconds for one prepared image, over `runs` runs, or fewer if they take long."""
    return round(1000 * _median(predictor, 1, runs), 3)


def compared_ms(one: Predictor, other: Predictor, slower: Callable[[float, float], bool]) -> tuple[float, float]:
    """Return two models' milliseconds of CPU time for one prepared image, each on one thread.

    They run in the order A B B A, so that a drift in speed cancels. The minimum of a model's times counts, because
    other processes disturb it least. If the first model is `slower` than allowed, both are measured again and the
    smaller ratio counts, so that a refusal is confirmed.
    """
    fastest = _least(one, other)
    if slower(*fastest):
        again = _least(one, other)
        fastest = min(fastest, again, key=lambda times: times[0] / max(times[1], 1e-9))
    return fastest


def images_per_second(predictor: Predictor, latency_ms: float, runs: int = 5) -> float:
    """Return the throughput in prepared images per second, in batches of 32, or of as many as fit into 2 s."""
    batch = max(1, min(BATCH, int(1000 * _SECONDS / latency_ms)))
    return round(batch / _median(predictor, batch, runs), 2)


def _median(predictor: Predictor, batch: int, runs: int) -> float:
    """Return a model's median seconds for a batch of random images."""
    images = _images(predictor, batch)
    for _ in range(_WARM_UP):
        predictor.logits(images)
    began = time.perf_counter()
    taken = [_seconds(predictor, images, time.perf_counter) for _ in range(min(runs, _LEAST))]
    while len(taken) < runs and time.perf_counter() - began <= _SECONDS:
        taken.append(_seconds(predictor, images, time.perf_counter))
    return statistics.median(taken)


def _least(one: Predictor, other: Predictor) -> tuple[float, float]:
    """Return the minimum milliseconds of CPU time of both models, in rounds A B B A."""
    sides = [(predictor, _images(predictor, 1)) for predictor in (one, other)]
    for predictor, images in sides * _WARM_UP:
        predictor.logits(images)
    began, taken = time.perf_counter(), ([], [])  # type: tuple[float, tuple[list[float], list[float]]]
    while len(taken[0]) < 2 * _ROUNDS and (len(taken[0]) < 2 * _LEAST or time.perf_counter() - began <= 2 * _SECONDS):
        for side in (0, 1, 1, 0):
            taken[side].append(_seconds(*sides[side], time.thread_time))
    first, second = (round(1000 * min(seconds), 4) for seconds in taken)
    return first, second


def _images(predictor: Predictor, batch: int) -> NDArray[np.uint8]:
    size = predictor.contract.size
    return randomness.generator("latency", batch).integers(0, 256, (batch, size, size, 3), dtype=np.uint8)


def _seconds(predictor: Predictor, images: NDArray[np.uint8], clock: Callable[[], float]) -> float:
    began = clock()
    predictor.logits(images)
    return clock() - began
