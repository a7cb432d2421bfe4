from __future__ import annotations

import math

import pytest
from small_runs import training_params

from adaptformer.config.params import TrainingParams
from adaptformer.training import optimiser

PARAMS = training_params(base_lr=0.5, batch_size=128, warmup_fraction=0.2)
PEAK = 0.5 * 128 / 256


def learning_rate(params: TrainingParams, progress: float, epochs: int, steps: int, batch_size: int = 128) -> float:
    return optimiser.learning_rate(params, progress, epochs, steps, batch_size)


@pytest.mark.parametrize("progress", [0.05, 0.25, 1.0, 3.75])
def test_warm_up_is_linear_from_zero_to_the_peak(progress: float) -> None:
    assert learning_rate(PARAMS, progress, 20, 10) == pytest.approx(PEAK * progress / 4)


def test_the_peak_is_reached_when_warm_up_ends() -> None:
    assert learning_rate(PARAMS, 4, 20, 10) == pytest.approx(PEAK)


@pytest.mark.parametrize("progress", [4.0, 7.3, 12.0, 19.99])
def test_after_the_warmup_half_a_cosine_leads_to_zero(progress: float) -> None:
    expected = PEAK * (1 + math.cos(math.pi * (progress - 4) / 16)) / 2
    assert learning_rate(PARAMS, progress, 20, 10) == pytest.approx(expected)
    assert learning_rate(PARAMS, 20, 20, 10) == pytest.approx(0, abs=1e-12)


def test_a_phase_of_any_length_reaches_its_peak() -> None:
    assert max(learning_rate(PARAMS, step / 10, 3, 10) for step in range(30)) == pytest.approx(PEAK)
    assert learning_rate(PARAMS, 0.6, 3, 10) == pytest.approx(PEAK)


def test_a_phase_shorter_than_its_warm_up_in_steps_ends_within_it() -> None:
    params = training_params(base_lr=0.5, batch_size=128, warmup_steps=40)
    rates = [learning_rate(params, step / 10, 3, 10) for step in range(30)]
    assert rates == pytest.approx([PEAK * max(step, 0.5) / 40 for step in range(30)])


def test_a_phase_as_long_as_its_warm_up_never_divides_by_zero() -> None:
    params = training_params(base_lr=0.5, batch_size=128, warmup_steps=40)
    assert learning_rate(params, 3.9, 4, 10) == pytest.approx(PEAK * 3.9 / 4)


def test_without_warm_up_it_starts_at_the_peak() -> None:
    assert learning_rate(training_params(base_lr=0.5, batch_size=128, warmup_fraction=0), 0, 10, 10) == pytest.approx(
        PEAK
    )


def test_a_warm_up_in_steps_takes_the_place_of_one_in_epochs() -> None:
    params = training_params(base_lr=0.5, batch_size=128, warmup_fraction=0.2, warmup_steps=5)
    assert [learning_rate(params, step / 10, 20, 10) for step in range(6)] == pytest.approx(
        [PEAK * max(step, 0.5) / 5 for step in range(6)]
    )
    assert learning_rate(params, 0.5 + 19.5 / 2, 20, 10) == pytest.approx(PEAK / 2)


def test_the_peak_is_base_lr_itself_where_it_is_not_scaled_by_the_batch() -> None:
    assert (
        learning_rate(training_params(base_lr=0.5, batch_size=128, warmup_fraction=0, scale_lr=False), 0, 10, 10) == 0.5
    )


def test_the_first_step_has_the_rate_of_its_middle_and_every_other_one_that_of_the_published_code() -> None:
    rates = [learning_rate(PARAMS, step / 10, 20, 10) for step in range(200)]
    published = [optimiser.warmup_then_cosine(PEAK, step / 10, 4, 20) for step in range(200)]
    assert published[0] == 0
    assert rates[0] == pytest.approx(PEAK * 0.05 / 4)
    assert rates[1:] == published[1:]


@pytest.mark.parametrize("warmup_fraction", [0.0, 0.15, 0.4])
def test_a_phase_of_one_step_learns(warmup_fraction: float) -> None:
    params = training_params(base_lr=0.5, batch_size=128, warmup_fraction=warmup_fraction)
    assert learning_rate(params, 0.0, 1, 1) > 0.3 * PEAK


def test_the_peak_follows_the_images_of_a_step() -> None:
    params = training_params(base_lr=0.5, batch_size=1024, warmup_fraction=0)
    assert learning_rate(params, 0.0, 10, 1, batch_size=200) == pytest.approx(0.5 * 200 / 256)
