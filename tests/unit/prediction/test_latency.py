"""Timing decides no test here: the models and the clock are made up."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import mite
import numpy as np
import pytest

from adaptformer.data.preprocessing import ImageContract
from adaptformer.prediction import latency
from adaptformer.prediction.predictor import Predictor


class Clock:
    """Seconds that pass only when somebody works."""

    def __init__(self) -> None:
        self.now = 100.0
        self.visits: list[str] = []


class Model:
    """Takes the seconds that it is told to, one after the other, then always the last."""

    contract: ImageContract = mite.CONTRACT

    def __init__(self, name: str, clock: Clock, *seconds: float) -> None:
        self.name, self.clock, self.seconds = name, clock, list(seconds)
        self.seen: list[np.ndarray] = []

    def logits(self, images: np.ndarray) -> None:
        self.clock.visits.append(self.name)
        self.clock.now += self.seconds.pop(0) if len(self.seconds) > 1 else self.seconds[0]
        self.seen.append(images)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made_up = Clock()
    monkeypatch.setattr(time, "perf_counter", lambda: made_up.now)
    monkeypatch.setattr(time, "thread_time", lambda: made_up.now)
    return made_up


Made = Callable[..., Model]


@pytest.fixture
def made(clock: Clock) -> Made:
    return lambda *seconds, name="a": Model(name, clock, *seconds)


def test_the_median_is_told_in_milliseconds(made: Made) -> None:
    assert latency.latency_ms(made(9, 9, 0.001, 0.5, 0.002, 0.003, 0.004), runs=5) == 3.0  # type: ignore[arg-type]


def test_the_first_two_runs_only_warm_up(made: Made) -> None:
    assert latency.latency_ms(made(9, 9, 0.001)) == 1.0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "runs", "visits"), [(0.01, 20, 22), (0.3, 20, 9), (60, 20, 5), (60, 1, 3)]
)  # two seconds, but three runs that count, unless fewer are asked for
def test_as_many_runs_as_asked_for_unless_they_take_too_long(
    made: Made, clock: Clock, seconds: float, runs: int, visits: int
) -> None:
    latency.latency_ms(made(seconds), runs)  # type: ignore[arg-type]
    assert len(clock.visits) == visits


def compared(one: Model, other: Model, slower: float = 1.5) -> tuple[float, float]:
    return latency.compared_ms(one, other, lambda a, b: a > slower * b)  # type: ignore[arg-type]


def test_two_models_take_turns_so_that_drift_cancels_and_the_least_counts(made: Made, clock: Clock) -> None:
    assert compared(made(9, 9, 0.004, 0.001, 0.003, name="a"), made(9, 9, 0.002, name="b")) == (1.0, 2.0)
    assert clock.visits == ["a", "b"] * 2 + ["a", "b", "b", "a"] * 25


def test_a_refusal_is_confirmed_by_a_second_measurement(made: Made, clock: Clock) -> None:
    disturbed = made(*[9.0] * 2, *[0.004] * 50, 9, 9, 0.002)
    assert compared(disturbed, made(0.002)) == (2.0, 2.0)
    assert len(clock.visits) == 2 * 104
    clock.visits.clear()
    assert compared(made(0.004), made(0.002)) == (4.0, 2.0)
    assert len(clock.visits) == 2 * 104
    clock.visits.clear()
    assert compared(made(0.003), made(0.002)) == (3.0, 2.0)
    assert len(clock.visits) == 104, "it may take as long"


def test_slow_models_are_compared_in_fewer_rounds(made: Made, clock: Clock) -> None:
    compared(made(0.3), made(0.3))
    assert len(clock.visits) == 4 + 16, "four seconds"
    clock.visits.clear()
    compared(made(60), made(60))
    assert len(clock.visits) == 4 + 12, "but three rounds"


def test_each_model_gets_one_random_image_of_its_size_the_same_each_time(made: Made) -> None:
    first, second = made(0.1), made(0.1)
    second.contract = ImageContract(12, "crop", 0.5, "bilinear", (0, 0, 0), (1, 1, 1))
    compared(first, second)
    assert {images.shape for images in first.seen} == {(1, mite.SIDE, mite.SIDE, 3)}
    assert {images.shape for images in second.seen} == {(1, 12, 12, 3)}
    assert first.seen[0].dtype == np.uint8
    assert len(np.unique(first.seen[0])) > 100
    again = made(0.1)
    latency.latency_ms(again)  # type: ignore[arg-type]
    np.testing.assert_array_equal(first.seen[0], again.seen[0])


def test_throughput_is_of_batches_of_32(made: Made, clock: Clock) -> None:
    batched = made(9, 9, 0.125)
    assert latency.images_per_second(batched, 62.5) == 256.0  # type: ignore[arg-type]
    assert {len(images) for images in batched.seen} == {32}
    assert len(clock.visits) == 7


@pytest.mark.parametrize(("latency_ms", "batch"), [(0.1, 32), (63, 31), (400, 5), (2001, 1), (9000, 1)])
def test_slow_models_see_smaller_batches(made: Made, latency_ms: float, batch: int) -> None:
    slow = made(2.0)
    assert latency.images_per_second(slow, latency_ms) == batch / 2  # type: ignore[arg-type]
    assert {len(images) for images in slow.seen} == {batch}


def test_a_real_model_runs(onnx_file: Path) -> None:
    predictor = Predictor(onnx_file, device="cpu", threads=1)
    fast = latency.latency_ms(predictor, runs=1)
    assert min(fast, *latency.compared_ms(predictor, predictor, lambda _one, _other: False)) > 0
    assert latency.images_per_second(predictor, fast, runs=1) > 0
