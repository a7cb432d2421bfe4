from __future__ import annotations

import numpy as np
import pytest

from adaptformer.curation.sharded_checks import same_bytes


@pytest.mark.parametrize("at_once", [1_000_000, 40, 7])
def test_each_repetition_names_the_first_image(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(same_bytes, "AT_ONCE", at_once)
    random = np.random.default_rng(0)
    hashes = random.integers(0, 256, (60, 32), dtype=np.uint8)[random.integers(0, 60, 200)]
    first: dict[bytes, int] = {}
    expected = [
        (number, first[row.tobytes()])
        for number, row in enumerate(hashes)
        if first.setdefault(row.tobytes(), number) != number
    ]
    assert len(expected) > 100
    found = same_bytes.copies(lambda: np.array_split(hashes, 9), len(hashes))
    assert found.tolist() == [list(pair) for pair in expected]


def test_hashes_that_share_eight_bytes_differ() -> None:
    hashes = np.zeros((3, 32), np.uint8)
    hashes[1, 8], hashes[2, 15] = 1, 1
    assert same_bytes.copies(lambda: [hashes], 3).shape == (0, 2)


def test_no_images_have_no_copies() -> None:
    assert same_bytes.copies(lambda: [], 0).shape == (0, 2)
