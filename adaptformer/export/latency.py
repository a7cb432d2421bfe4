"""How long the exported model takes, on this machine and now: nothing here belongs in a result file.

Several models are timed in turn, so that whatever else the machine does slows all of them alike.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from adaptformer import randomness
from adaptformer.export.predictor import Predictor

BATCH = 32
_WARM_UP = 2
_LEAST = 3
_SECONDS = 2.0
"""Time for each model, after which no further run begins unless there are fewer than `_LEAST`."""


def latency_ms(predictors: Sequence[Predictor], runs: int = 20) -> list[float]:
    """Return each model's median milliseconds for one prepared image, in fewer than `runs` where that takes long."""
    return [round(1000 * seconds, 3) for seconds in _medians(predictors, 1, runs)]


def images_per_second(predictor: Predictor, latency_ms: float, runs: int = 5) -> float:
    """Return how many prepared images a second pass in batches of 32, or of as many as `latency_ms` fit into 2 s."""
    batch = max(1, min(BATCH, int(1000 * _SECONDS / latency_ms)))
    (seconds,) = _medians([predictor], batch, runs)
    return round(batch / seconds, 2)


def _medians(predictors: Sequence[Predictor], batch: int, runs: int) -> list[float]:
    """Return each model's median seconds for a batch of random images; every run visits all models in turn."""
    shapes = [(batch, predictor.contract.size, predictor.contract.size, 3) for predictor in predictors]
    images = [randomness.generator("latency", batch).integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
    for _ in range(_WARM_UP):
        _once(predictors, images)
    began = time.perf_counter()
    taken = [_once(predictors, images) for _ in range(min(runs, _LEAST))]
    while len(taken) < runs and time.perf_counter() - began <= _SECONDS * len(predictors):
        taken.append(_once(predictors, images))
    return [statistics.median(seconds) for seconds in zip(*taken, strict=True)]


def _once(predictors: Sequence[Predictor], images: Sequence[NDArray[np.uint8]]) -> list[float]:
    """Run each model once and return the seconds of each."""
    marks = [time.perf_counter()]
    for predictor, batch in zip(predictors, images, strict=True):
        predictor.logits(batch)
        marks.append(time.perf_counter())
    return [after - before for before, after in pairwise(marks)]
