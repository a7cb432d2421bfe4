from __future__ import annotations

import numpy as np
import pytest

from adaptformer.training import balance

LABELS = np.repeat([0, 1, 2], [60, 30, 10])


def test_full_power_gives_every_class_the_same_weight_in_all() -> None:
    weights = balance.class_weights(LABELS, 3, 1.0)
    assert weights * [60, 30, 10] == pytest.approx([100 / 3] * 3)


def test_half_power_is_the_square_root_of_that() -> None:
    weights = balance.class_weights(LABELS, 3, 0.5)
    assert weights[2] / weights[0] == pytest.approx(6**0.5)
    assert weights[LABELS].mean() == pytest.approx(1)


def test_a_class_without_images_weighs_nothing() -> None:
    weights = balance.class_weights(LABELS, 4, 1.0)
    assert weights[3] == 0
    assert np.isfinite(weights).all()


def test_without_weights_each_image_comes_once() -> None:
    assert sorted(balance.order(LABELS, None, 0, 1, 1)) == list(range(100))


def test_the_sampler_draws_rare_classes_as_often_and_by_its_key_alone() -> None:
    many = np.repeat(LABELS, 50)
    weights = balance.class_weights(many, 3, 1.0)
    drawn = np.bincount(many[balance.order(many, weights, 0, 1, 1)], minlength=3)
    assert drawn == pytest.approx([5000 / 3] * 3, rel=0.1)
    assert (balance.order(many, weights, 0, 1, 1) == balance.order(many, weights, 0, 1, 1)).all()
    assert (balance.order(many, weights, 0, 1, 1) != balance.order(many, weights, 0, 1, 2)).any()


def test_a_class_with_one_image_weighs_as_much_as_all_images_of_another() -> None:
    weights = balance.class_weights(np.array([0, 0, 0, 0, 1]), 2, 1.0)
    assert weights[1] / weights[0] == pytest.approx(4)


def test_without_weights_too_the_order_is_that_of_its_key() -> None:
    assert (balance.order(LABELS, None, 0, 1, 1) == balance.order(LABELS, None, 0, 1, 1)).all()
    assert (balance.order(LABELS, None, 0, 1, 1) != balance.order(LABELS, None, 0, 1, 2)).any()


def test_the_order_of_a_key_is_this_one_for_ever() -> None:
    # Figures in docs/ and in finished runs rest on it.
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    assert balance.order(labels, None, 0, 1, 1).tolist() == [2, 3, 0, 5, 4, 6, 1, 7]
    weights = balance.class_weights(labels, 2, 1.0)
    assert balance.order(labels, weights, 0, 1, 1).tolist() == [6, 6, 7, 3, 6, 5, 2, 7]
