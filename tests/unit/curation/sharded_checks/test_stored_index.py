"""Near duplicates found cell by cell, with pictures and results in a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from many_scenes import scene
from numpy.typing import NDArray
from PIL import ImageOps

from adaptformer.curation.checks import duplicate_candidates, duplicate_verification, ivf_index, near_duplicates
from adaptformer.curation.sharded_checks import stored_index
from adaptformer.data.image_facts import SIDE, small_picture

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
    return as_set(stored_index.pairs(folder, np.array_split(pictures, 5)))


def as_set(pairs: NDArray[np.int64]) -> set[tuple[int, int]]:
    return {(int(first), int(second)) for first, second in pairs}


def all_with_all(pictures: NDArray[np.uint8]) -> set[tuple[int, int]]:
    """Pairs of near duplicates among the three pictures nearest to each, by comparing every view with every picture."""
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    plain = duplicate_candidates.signatures(images)
    rows = []
    for view, transform in enumerate(duplicate_candidates.view_transforms()):
        cosines = duplicate_candidates.signatures(images, transform) @ plain.T
        cosines.fill_diagonal_(0)
        similar = (cosines >= duplicate_candidates.LEAST).nonzero()
        rows += [(int(row), int(column), view, float(cosines[row, column])) for row, column in similar]
    candidates = duplicate_candidates.nearest(pd.DataFrame(rows, columns=["row", "column", "view", "cosine"]))
    agreement, fits = duplicate_verification.agreements(pictures, duplicate_candidates.proposals(candidates))
    same = fits & (agreement >= duplicate_verification.bound(agreement))
    return as_set(candidates.loc[same, ["first", "second"]].to_numpy())


def test_within_the_cells_all_are_compared(pictures: NDArray[np.uint8], tmp_path: Path) -> None:
    expected = all_with_all(pictures)
    assert len(expected & PLANTED) >= 0.8 * len(PLANTED)
    assert as_set(near_duplicates.pairs(pictures)) == expected
    assert found(pictures, tmp_path) == expected
    assert len(stored_index.prepare(tmp_path, []).centres) == 1


def test_of_many_copies_every_one_is_named_with_others(pictures: NDArray[np.uint8], tmp_path: Path) -> None:
    turned = np.stack([small_picture(np.asarray(scene(0).rotate(degrees))) for degrees in range(-5, 6)])
    many = np.concatenate([turned[:6], pictures[1:60], turned[6:]])
    expected, pairs = all_with_all(many), found(many, tmp_path)
    assert {number for pair in pairs for number in pair} == {number for pair in expected for number in pair}
    # Which of so many pairs are the nearest differs a little; half as many would be those of one side.
    assert len(pairs) >= 0.9 * len(expected) > 27
    assert as_set(near_duplicates.pairs(many)) == pairs


def test_the_size_of_blocks_changes_nothing(
    pictures: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = found(pictures, tmp_path / "whole")
    monkeypatch.setattr(ivf_index, "BLOCK", 70)
    monkeypatch.setattr(ivf_index, "_AT_ONCE", (11, 90))
    monkeypatch.setattr(near_duplicates, "PAIRS", 7)
    assert found(pictures, tmp_path / "blocks") == whole


def test_with_many_cells_few_are_compared_and_copies_are_found(
    pictures: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ivf_index, "CELL", 10)
    monkeypatch.setattr(ivf_index, "PROBES", 5)
    pairs = found(pictures, tmp_path)
    assert len(pairs & PLANTED) >= 0.7 * len(PLANTED)
    assert as_set(near_duplicates.pairs(pictures)) == pairs
    index = stored_index.prepare(tmp_path, [])
    assert len(index.centres) == 33
    assert sorted(index.members.tolist()) == list(range(len(pictures)))
    assert index.starts[0] == 0
    assert index.starts[-1] == len(pictures)
    signatures = torch.from_numpy(ivf_index.signatures_of(pictures))
    cell = np.repeat(np.arange(33), np.diff(index.starts))[np.argsort(index.members)]
    np.testing.assert_array_equal(cell, torch.cdist(signatures, torch.from_numpy(index.centres)).argmin(dim=1))


def test_blocks_that_are_done_are_not_compared_again(
    pictures: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ivf_index, "BLOCK", 110)
    expected = found(pictures, tmp_path / "whole")
    folder, steps, kept = tmp_path / "cells", [], ivf_index.candidates

    def interrupted(index: ivf_index.Index, start: int) -> pd.DataFrame:
        if len(steps) == 2:
            raise KeyboardInterrupt
        steps.append(start)
        return kept(index, start)

    def nothing() -> object:
        raise AssertionError("the index is there")
        yield

    with monkeypatch.context() as patch:
        patch.setattr(ivf_index, "candidates", interrupted)
        with pytest.raises(KeyboardInterrupt):
            stored_index.pairs(folder, [pictures])
    with monkeypatch.context() as patch:
        patch.setattr(ivf_index, "candidates", lambda index, start: steps.append(start) or kept(index, start))
        assert as_set(stored_index.pairs(folder, nothing())) == expected  # type: ignore[arg-type]
    assert steps == [0, 110, 220]
    monkeypatch.setattr(ivf_index, "candidates", lambda *_: pytest.fail("searched again"))
    monkeypatch.setattr(duplicate_verification, "agreements", lambda *_: pytest.fail("aligned again"))
    assert as_set(stored_index.pairs(folder, nothing())) == expected  # type: ignore[arg-type]


def test_an_index_that_was_interrupted_is_made_again(pictures: NDArray[np.uint8], tmp_path: Path) -> None:
    def interrupted() -> object:
        yield pictures[:50]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stored_index.prepare(tmp_path, interrupted())  # type: ignore[arg-type]
    assert found(pictures, tmp_path) == found(pictures, tmp_path / "undisturbed")
    assert len(stored_index.prepare(tmp_path, []).pictures) == len(pictures)


def test_no_pictures_have_no_pairs(tmp_path: Path) -> None:
    assert found(np.zeros((0, SIDE, SIDE, 3), np.uint8), tmp_path) == set()


@pytest.mark.parametrize("name", ["cells.safetensors", "pictures", "signatures", "index.json"])
def test_an_index_that_is_damaged_is_made_again(
    pictures: NDArray[np.uint8], tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    index = stored_index.prepare(tmp_path, np.array_split(pictures, 5))
    file = tmp_path / name
    whole = file.read_bytes()
    file.write_bytes(whole[:-3] + b"x" + whole[-2:])
    again = stored_index.prepare(tmp_path, np.array_split(pictures, 5))
    np.testing.assert_array_equal(again.members, index.members)
    assert file.read_bytes() == whole
    assert "is built again" in caplog.text


def test_results_of_steps_that_were_altered_are_computed_again(
    pictures: NDArray[np.uint8], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = found(pictures, tmp_path)
    for name in ("proposed", "confirmed"):
        (path,) = (tmp_path / name).glob("*.parquet")
        whole = path.read_bytes()
        pd.read_parquet(path).iloc[:0].to_parquet(path, index=False)
        assert found(pictures, tmp_path) == expected
        assert path.read_bytes() == whole
    assert caplog.text.count("it is computed again") == 2
