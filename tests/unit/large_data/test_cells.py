"""Near duplicates found cell by cell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from many_scenes import scene
from numpy.typing import NDArray
from PIL import ImageOps

from adaptformer.data.reading import small_picture
from adaptformer.large_data import cells
from adaptformer.validation import likeness, near_duplicates

PLAIN = 300


@pytest.fixture(scope="module")
def pictures() -> NDArray[np.uint8]:
    """PLAIN scenes, then copies of every tenth of them: mirrored, cropped or turned."""
    changes = (ImageOps.mirror, lambda image: image.crop((3, 2, 62, 61)), lambda image: image.rotate(8))
    copies = [changes[number % 3](scene(seed)) for number, seed in enumerate(range(0, PLAIN, 10))]
    images = [*(scene(seed) for seed in range(PLAIN)), *copies]
    return np.stack([small_picture(np.asarray(image)) for image in images])


PLANTED = {(seed, PLAIN + number) for number, seed in enumerate(range(0, PLAIN, 10))}


def found(pictures: NDArray[np.uint8], folder: Path) -> set[tuple[int, int]]:
    return searched(cells.prepare(folder, np.array_split(pictures, 5)), folder)


def searched(index: cells.Index, folder: Path) -> set[tuple[int, int]]:
    proposed = cells.proposals([cells.propose(index, folder, start) for start in cells.blocks(index)])
    paths = [cells.confirm(index, folder, proposed, start) for start in range(0, len(proposed), cells.PAIRS)]
    return {(int(first), int(second)) for first, second in cells.confirmed(proposed, paths)}


def test_within_the_cells_all_are_compared(pictures: NDArray[np.uint8], tmp_path: Path) -> None:
    expected = {(int(first), int(second)) for first, second in near_duplicates.pairs(pictures)}
    assert len(expected & PLANTED) >= 0.8 * len(PLANTED)
    assert found(pictures, tmp_path) == expected
    assert len(cells.prepare(tmp_path, []).centres) == 1


def test_of_many_copies_every_one_is_named_with_others(pictures: NDArray[np.uint8], tmp_path: Path) -> None:
    turned = np.stack([small_picture(np.asarray(scene(0).rotate(degrees))) for degrees in range(-5, 6)])
    many = np.concatenate([turned[:6], pictures[1:60], turned[6:]])
    expected = near_duplicates.pairs(many)
    pairs = found(many, tmp_path)
    assert {number for pair in pairs for number in pair} == set(expected.flatten().tolist())
    # Which of so many pairs are the nearest differs a little; half as many would be those of one side.
    assert len(pairs) >= 0.9 * len(expected) > 30


def test_the_size_of_blocks_changes_nothing(
    pictures: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = found(pictures, tmp_path / "whole")
    monkeypatch.setattr(cells, "BLOCK", 70)
    monkeypatch.setattr(cells, "_AT_ONCE", (11, 90))
    monkeypatch.setattr(cells, "PAIRS", 7)
    assert found(pictures, tmp_path / "blocks") == whole


def test_with_many_cells_few_are_compared_and_copies_are_found(
    pictures: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cells, "CELL", 10)
    monkeypatch.setattr(cells, "PROBES", 5)
    pairs = found(pictures, tmp_path)
    assert len(pairs & PLANTED) >= 0.7 * len(PLANTED)
    index = cells.prepare(tmp_path, [])
    assert len(index.centres) == 33
    assert sorted(index.members.tolist()) == list(range(len(pictures)))
    assert index.starts[0] == 0
    assert index.starts[-1] == len(pictures)
    signatures = likeness.signatures(cells._images(pictures))
    cell = np.repeat(np.arange(33), np.diff(index.starts))[np.argsort(index.members)]
    np.testing.assert_array_equal(cell, torch.cdist(signatures, index.centres).argmin(dim=1))
    near = cells._nearest(index.centres, index.centres, 5)
    assert near.shape == (33, 5)
    assert near[:, 0].tolist() == list(range(33))


def test_blocks_that_are_done_are_not_compared_again(
    pictures: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cells, "BLOCK", 110)
    expected = found(pictures, tmp_path / "whole")
    index = cells.prepare(tmp_path / "cells", [pictures])
    first = cells.propose(index, tmp_path / "cells", 0)
    with monkeypatch.context() as patch:
        patch.setattr(cells, "_proposed", None)
        assert cells.propose(index, tmp_path / "cells", 0) == first

    def nothing() -> object:
        raise AssertionError("the index is there")
        yield

    index = cells.prepare(tmp_path / "cells", nothing())  # type: ignore[arg-type]
    assert searched(index, tmp_path / "cells") == expected
    monkeypatch.setattr(cells, "_proposed", None)
    monkeypatch.setattr(cells.alignment, "agreements", None)
    assert searched(index, tmp_path / "cells") == expected


def test_an_index_that_was_interrupted_is_made_again(pictures: NDArray[np.uint8], tmp_path: Path) -> None:
    def interrupted() -> object:
        yield pictures[:50]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cells.prepare(tmp_path, interrupted())  # type: ignore[arg-type]
    assert found(pictures, tmp_path) == found(pictures, tmp_path / "undisturbed")
    assert len(cells.prepare(tmp_path, []).pictures) == len(pictures)


def test_no_pictures_have_no_pairs(tmp_path: Path) -> None:
    index = cells.prepare(tmp_path, [])
    assert list(cells.blocks(index)) == []
    assert searched(index, tmp_path) == set()


@pytest.mark.parametrize("name", ["cells.safetensors", "pictures", "signatures", "index.json"])
def test_an_index_that_is_damaged_is_made_again(
    pictures: NDArray[np.uint8], tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    index = cells.prepare(tmp_path, np.array_split(pictures, 5))
    file = tmp_path / name
    whole = file.read_bytes()
    file.write_bytes(whole[:-3] + b"x" + whole[-2:])
    again = cells.prepare(tmp_path, np.array_split(pictures, 5))
    np.testing.assert_array_equal(again.members, index.members)
    assert file.read_bytes() == whole
    assert "is built again" in caplog.text


def test_pairs_that_were_altered_are_computed_again(
    pictures: NDArray[np.uint8], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    index = cells.prepare(tmp_path, np.array_split(pictures, 5))
    proposed = cells.propose(index, tmp_path, 0)
    confirmed = cells.confirm(index, tmp_path, cells.proposals([proposed]), 0)
    for path in (proposed, confirmed):
        whole = path.read_bytes()
        pd.read_parquet(path).iloc[:0].to_parquet(path, index=False)
        again = cells.propose(index, tmp_path, 0), cells.confirm(index, tmp_path, cells.proposals([proposed]), 0)
        assert again == (proposed, confirmed)
        assert path.read_bytes() == whole
    assert caplog.text.count("it is computed again") == 2
