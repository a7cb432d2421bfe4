from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from adaptformer.base import randomness


def test_numbers_are_a_function_of_their_key() -> None:
    first = randomness.uniform((3, 2), "crop", 1, 2)
    np.random.default_rng(0).random(10)
    torch.rand(10)
    np.testing.assert_array_equal(randomness.uniform((3, 2), "crop", 1, 2), first)
    assert first.shape == (3, 2)
    assert 0 <= first.min() < first.max() < 1


def test_another_purpose_or_key_gives_other_numbers() -> None:
    keys = [("crop", 0, 0), ("order", 0, 0), ("crop", 0, 1), ("crop", 1, 0), ("crop", 1, 1), ("crop", 0, 2**40)]
    assert len({randomness.uniform((1,), *key)[0] for key in keys}) == len(keys)


@pytest.mark.parametrize(("first", "second"), [((2**32,), (0, 1)), ((1,), (1, 0)), ((), (0,)), ((1, 23), (12, 3))])
def test_keys_of_different_integers_do_not_collide(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    assert randomness.uniform((1,), "crop", *first) != randomness.uniform((1,), "crop", *second)


def test_numpys_integers_are_the_same_key_as_pythons() -> None:
    assert randomness.uniform((1,), "crop", np.int64(3)) == randomness.uniform((1,), "crop", 3)  # type: ignore[arg-type]


def test_the_stream_of_a_key_is_the_same_in_every_process() -> None:
    # Unlike hash(), which Python salts anew each time.
    key = int(hashlib.sha256(b'["crop", 3, 4]').hexdigest()[:32], 16)
    expected = np.random.Generator(np.random.Philox(key=key)).random(5)
    np.testing.assert_array_equal(randomness.uniform((5,), "crop", 3, 4), expected)


def test_a_permutation_holds_each_index_once() -> None:
    order = randomness.permutation(100, "order", 0)
    assert sorted(order) == list(range(100))
    assert list(order) != list(range(100))
    np.testing.assert_array_equal(randomness.permutation(100, "order", 0), order)
    assert list(randomness.permutation(100, "order", 1)) != list(order)


def test_torch_draws_the_same_after_the_same_key() -> None:
    def drawn(*key: int) -> list[float]:
        randomness.seed_torch("step", *key)
        return torch.rand(3).tolist()

    assert drawn(0, 1) == drawn(0, 1)
    assert drawn(0, 1) != drawn(1, 0)
