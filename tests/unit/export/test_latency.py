"""Timing decides no test here: the models and the clock are made up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mite
import numpy as np
import pytest

from adaptformer.data.contract import ImageContract
from adaptformer.export import latency
from adaptformer.export.predictor import Predictor


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
    monkeypatch.setattr(latency.time, "perf_counter", lambda: made_up.now)
    return made_up


Made = Callable[..., Model]


@pytest.fixture
def made(clock: Clock) -> Made:
    return lambda *seconds, name="a": Model(name, clock, *seconds)


def times(*models: Model, runs: int = 20) -> list[float]:
    return latency.latency_ms(models, runs)  # type: ignore[arg-type]


def test_the_median_is_told_in_milliseconds(made: Made) -> None:
    assert times(made(9, 9, 0.001, 0.5, 0.002, 0.003, 0.004), runs=5) == [3.0]


def test_the_first_two_runs_only_warm_up(made: Made) -> None:
    assert times(made(9, 9, 0.001)) == [1.0]


def test_models_take_turns_in_every_run(made: Made, clock: Clock) -> None:
    assert times(made(0.001, name="a"), made(0.002, name="b"), runs=3) == [1.0, 2.0]
    assert clock.visits == ["a", "b"] * 5


def test_as_many_runs_as_asked_for_unless_they_take_too_long(made: Made, clock: Clock) -> None:
    times(made(0.01))
    assert len(clock.visits) == 22
    clock.visits.clear()
    times(made(0.3))
    assert len(clock.visits) == 9, "two seconds a model"
    clock.visits.clear()
    times(made(0.3), made(0.3))
    assert len(clock.visits) == 18
    clock.visits.clear()
    times(made(60))
    assert len(clock.visits) == 5, "but three that count"
    clock.visits.clear()
    times(made(60), runs=1)
    assert len(clock.visits) == 3, "unless fewer are asked for"


def test_each_model_gets_one_random_image_of_its_size_the_same_each_time(made: Made) -> None:
    first, second = made(0.1), made(0.1)
    second.contract = ImageContract(12, "crop", 0.5, "bilinear", (0, 0, 0), (1, 1, 1))
    times(first, second)
    assert {images.shape for images in first.seen} == {(1, mite.SIDE, mite.SIDE, 3)}
    assert {images.shape for images in second.seen} == {(1, 12, 12, 3)}
    assert first.seen[0].dtype == np.uint8
    assert len(np.unique(first.seen[0])) > 100
    again = made(0.1)
    times(again)
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
    fast, same = latency.latency_ms([predictor, predictor], runs=1)
    assert min(fast, same) > 0
    assert latency.images_per_second(predictor, fast, runs=1) > 0
