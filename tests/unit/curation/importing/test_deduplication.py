"""Near duplicates brought into one split, or one kept of each group, and taken back."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from test_relabelling import PARAMS, content

from adaptformer.base.errors import UserError
from adaptformer.config.params import DataParams
from adaptformer.curation.importing import deduplication
from adaptformer.curation.importing.deduplication import Deduplication, Places
from adaptformer.data import manifest

Tree = Callable[..., Path]
IMAGES = {
    f"{split}/{label}/{i}.png": 1000 * m + 100 * n + i
    for m, (split, count) in enumerate((("train", 6), ("validation", 2), ("test", 3)))
    for n, label in enumerate(("cat", "dog"))
    for i in range(count)
}
PAIRS = [
    ("test/cat/0.png", "train/cat/0.png"),
    ("test/cat/1.png", "train/cat/0.png"),  # one group of three with the first
    ("test/dog/1.png", "validation/dog/0.png"),
    ("train/dog/3.png", "train/dog/4.png"),
    ("train/cat/5.png", "train/dog/5.png"),
]


@pytest.fixture
def data(tree: Tree) -> Path:
    return tree(IMAGES)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path / "deduplicated.csv", tmp_path / "deduplicated")


def validated(data: Path, params: DataParams = PARAMS) -> pd.DataFrame:
    return manifest.scan(data, manifest.ValidationShare(params.validation_fraction, params.seed, params.group_pattern))[
        0
    ]


def dedupe(data: Path, places: Places, pairs: list[tuple[str, str]] = PAIRS, **options: bool) -> Deduplication:
    return deduplication.dedupe(data, pairs, validated(data), PARAMS, places, **options)


def test_each_group_comes_into_one_split_and_no_image_goes(data: Path, places: Places) -> None:
    before = content(data)
    done = dedupe(data, places)
    after = content(data)
    assert sorted(after.values()) == sorted(before.values())
    splits = {pixels: path.partition("/")[0] for path, pixels in after.items()}
    now = {path: splits[pixels] for path, pixels in before.items() if splits[pixels] != path.partition("/")[0]}
    assert now == {"test/cat/0.png": "train", "test/cat/1.png": "train", "test/dog/1.png": "validation"}
    assert after["train/cat/0.png"] == before["train/cat/0.png"]  # its name was taken
    assert after["train/cat/0-2.png"] == before["test/cat/0.png"]
    assert done.lines() == [
        "moved 3 images into the split of their near duplicates",
        "  test -> train: 2",
        "  test -> validation: 1",
        f"each image: {places.moves}; `adaptformer data dedupe --undo` takes it back",
    ]
    rows = places.moves.read_text().splitlines()
    assert rows[0] == "number,before,after"
    assert "1,test/cat/0.png,train/cat/0-2.png" in rows
    assert len(rows) == 4


def test_one_image_of_each_group_is_kept_a_test_image_if_there_is_one(data: Path, places: Places) -> None:
    before = content(data)
    done = dedupe(data, places, keep_one=True)
    gone = before.keys() - content(data).keys()
    assert gone == {"train/cat/0.png", "test/cat/1.png", "validation/dog/0.png", "train/dog/4.png"}
    assert done.lines()[:2] == [
        f"removed 4 near duplicates (2 of train, 1 of validation, 1 of test): {places.removed}/",
        "left 1 groups unchanged, whose images are of several classes: see the findings",
    ]
    kept = content(places.removed / "1")
    assert kept == {path: before[path] for path in gone}


def test_of_equal_splits_the_largest_is_kept(data: Path, places: Places) -> None:
    table = validated(data)
    table.loc[table["path"] == "train/dog/4.png", "width"] *= 2
    deduplication.dedupe(data, PAIRS[3:4], table, PARAMS, places, keep_one=True)
    assert not (data / "train/dog/3.png").exists()
    assert (data / "train/dog/4.png").exists()


@pytest.mark.parametrize("keep_one", [False, True])
def test_undo_restores_every_byte_and_path_one_run_at_a_time(data: Path, places: Places, keep_one: bool) -> None:
    first = content(data)
    dedupe(data, places, PAIRS[:2], keep_one=keep_one)
    second = content(data)
    dedupe(data, places, PAIRS[2:3], keep_one=keep_one)
    deduplication.undo(data, places)
    assert content(data) == second
    deduplication.undo(data, places)
    assert content(data) == first
    with pytest.raises(UserError, match="no deduplication is left to undo"):
        deduplication.undo(data, places)


def test_validation_that_was_carved_is_written_down_and_undone(tree: Tree, places: Places) -> None:
    data = tree({path: seed for path, seed in IMAGES.items() if not path.startswith("validation")})
    before, table = content(data), validated(data)
    splits = dict(zip(table["sha256"], table["split"], strict=True))
    done = dedupe(data, places, PAIRS[:1])
    moved = table.loc[table["path"] == "test/cat/0.png", "sha256"].item()
    partner = table.loc[table["path"] == "train/cat/0.png", "sha256"].item()
    after = dict(zip(validated(data)["sha256"], validated(data)["split"], strict=True))
    assert after == splits | {moved: splits[partner]}
    assert done.frozen == sum(split == "validation" for split in splits.values())
    deduplication.undo(data, places)
    assert content(data) == before


def test_images_of_one_group_go_together(data: Path, places: Places) -> None:
    params = PARAMS.model_copy(update={"group_pattern": r"^(?:cat|dog)/([01])\.png"})
    table = validated(data)
    by_group = [path for path in IMAGES if path.startswith("test") and path[-5] == "0"]
    deduplication.dedupe(data, PAIRS[:1], table, params, places)
    left = {path for path in content(data) if path.startswith("test")}
    assert not left & set(by_group)


@pytest.mark.parametrize(
    ("pairs", "keep_one", "cause"),
    [
        ([], False, "the last validation found none"),
        (PAIRS[3:], False, "every group is in one split"),
        (PAIRS[4:], True, "every group"),
        ([("test/cat/9.png", "train/cat/0.png")], False, "has changed since the last validation"),
        ([(f"test/{c}/{i}.png", "train/cat/0.png") for c in ("cat", "dog") for i in range(3)], False, "no test image"),
        ([(f"train/cat/{i}.png", "test/cat/0.png") for i in range(6)], True, "no training image of cat"),
    ],
)
def test_what_cannot_be_done_changes_nothing(
    data: Path, places: Places, pairs: list[tuple[str, str]], keep_one: bool, cause: str
) -> None:
    before = content(data)
    with pytest.raises(UserError, match=cause):
        dedupe(data, places, pairs, keep_one=keep_one)
    assert content(data) == before
    assert not places.moves.exists()


def test_findings_about_other_bytes_are_refused(data: Path, places: Places) -> None:
    table = validated(data)
    shutil.copyfile(data / "train/dog/1.png", data / "train/cat/0.png")
    with pytest.raises(UserError, match=r"train/cat/0\.png has changed since the last validation"):
        deduplication.dedupe(data, PAIRS, table, PARAMS, places)


@pytest.mark.parametrize(
    ("path", "cause"),
    [("data/test/dog/1.png", "has taken the place"), ("kept", "the copy of an image removed")],
)
def test_undo_overwrites_nothing_and_loses_nothing(data: Path, places: Places, path: str, cause: str) -> None:
    dedupe(data, places, [("test/dog/1.png", "test/dog/2.png")], keep_one=True)
    if path == "kept":
        shutil.rmtree(places.removed)
    else:
        shutil.copyfile(data / "train/dog/1.png", data / "test/dog/2.png")
    before = content(data)
    with pytest.raises(UserError, match=cause):
        deduplication.undo(data, places)
    assert content(data) == before
