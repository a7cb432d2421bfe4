import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from adaptformer.base.errors import UserError
from adaptformer.curation.checks.faults import FAULT_COLUMNS, check, fault_table, raise_on_faults
from adaptformer.data.manifest import ValidationShare, scan

Tree = Callable[..., Path]
Sound = dict[str, bytes | int]


def faults_of(data: Path) -> set[tuple[str, str]]:
    return set(check(*scan(data, ValidationShare(0.2, 0)))[["path", "fault"]].itertuples(index=False, name=None))


def test_a_group_in_several_splits_is_a_fault(tree: Callable[..., Path], sound: dict[str, bytes | int]) -> None:
    grouped = {"train/cat/p1_a.png": 901, "train/cat/p2_a.png": 902, "test/dog/p1_b.png": 903}
    data = tree({**sound, **grouped})
    faults = check(*scan(data, ValidationShare(0.2, 0, r"/(p\d)_")), r"/(p\d)_")
    assert set(faults["path"]) == {"train/cat/p1_a.png", "test/dog/p1_b.png"}
    assert set(faults["detail"]) == {"group p1 is in test, train"}
    assert check(*scan(data, ValidationShare(0.2, 0))).empty


def test_a_sound_data_set_has_no_faults(tree: Tree, sound: Sound) -> None:
    faults = check(*scan(tree(sound), ValidationShare(0.2, 0)))
    assert faults.empty
    assert tuple(faults.columns) == FAULT_COLUMNS


@pytest.mark.parametrize(
    ("added", "expected"),
    [
        ({"train/cat/x.png": b"junk"}, {("train/cat/x.png", "unreadable file")}),
        ({"test/bird/1.png": 500}, {("test/bird", "class missing in train")}),
        (
            {"validation/bird/1.png": 500, "validation/bird/2.png": 501, "validation/cat/3.png": 502},
            {("validation/bird", "class missing in train")},
        ),
        ({"train/bird/1.png": 500, "test/bird/2.png": 501}, {("train/bird", "class with one image")}),
        ({"train/bird/1.png": 500, "train/bird/2.png": 500}, {("train/bird", "class with one image")}),
        (
            {"train/cat/x.png": 500, "test/cat/y.png": 500},
            {("train/cat/x.png", "duplicate across splits"), ("test/cat/y.png", "duplicate across splits")},
        ),
        (
            {"test/cat/x.png": 500, "test/dog/y.png": 500},
            {("test/cat/x.png", "conflicting labels"), ("test/dog/y.png", "conflicting labels")},
        ),
        (
            {"train/Cat/1.png": 500, "train/Cat/2.png": 501},
            {("train/Cat", "class names alike"), ("train/cat", "class names alike"), ("test/cat", "class names alike")},
        ),
        (
            {"train/ox /1.png": 500, "train/ox /2.png": 501},
            {("train/ox /1.png", "space around the class name"), ("train/ox /2.png", "space around the class name")},
        ),
    ],
)
def test_each_fault_is_found(tree: Tree, sound: Sound, added: Sound, expected: set[tuple[str, str]]) -> None:
    found = faults_of(tree({**sound, **added}))
    if any("validation" not in path and "Cat" in path for path in added):
        # The carve moves some of the class to validation; that split is a place of the name too.
        found = {fault for fault in found if not fault[0].startswith("validation/")}
    assert found == expected


def test_two_images_of_a_class_in_train_are_enough(tree: Tree, sound: Sound) -> None:
    assert faults_of(tree({**sound, "train/bird/1.png": 500, "train/bird/2.png": 501})) == set()


def test_a_duplicate_within_a_split_is_no_fault(tree: Tree, sound: Sound) -> None:
    assert faults_of(tree({**sound, "test/cat/x.png": 500, "test/cat/y.png": 500})) == set()


def test_a_single_class_is_a_fault(tree: Tree) -> None:
    data = tree({"train/cat/1.png": 1, "train/cat/2.png": 2, "test/cat/3.png": 3})
    assert faults_of(data) == {("train/cat", "single class")}


@pytest.mark.parametrize(("width", "height"), [(1, 9), (9, 1)])
def test_a_tiny_image_is_a_fault(
    tree: Tree, sound: Sound, picture: Callable[..., bytes], width: int, height: int
) -> None:
    data = tree({**sound, "test/cat/x.png": picture(5, width=width, height=height)})
    assert faults_of(data) == {("test/cat/x.png", "image too small")}


def test_a_duplicate_names_the_first_of_the_others(tree: Tree, sound: Sound) -> None:
    same = {"test/cat/x.png": 500, "train/cat/y.png": 500, "validation/cat/z.png": 500, "validation/dog/v.png": 501}
    faults = check(*scan(tree({**sound, **same}), ValidationShare(0.2, 0))).set_index("path")["detail"]
    assert faults.to_dict() == {
        "test/cat/x.png": "split test; the same bytes have split train: train/cat/y.png",
        "train/cat/y.png": "split train; the same bytes have split test: test/cat/x.png",
        "validation/cat/z.png": "split validation; the same bytes have split test: test/cat/x.png",
    }


def test_all_faults_come_at_once_and_say_what_to_do(tree: Tree, sound: Sound, tmp_path: Path) -> None:
    data = tree({**sound, "train/cat/a.png": b"", "train/cat/b.png": b"junk", "test/bird/1.png": 500})
    faults = check(*scan(data, ValidationShare(0.2, 0)))
    assert len(faults) == 3
    assert (faults["remedy"].str.len() > 0).all()
    with pytest.raises(UserError) as caught:
        raise_on_faults(faults, tmp_path / "artifacts" / "data_faults.csv")
    assert caught.value.cause == (
        "data/ has 3 faults: 2 x unreadable file, 1 x class missing in train; first: 'train/cat/a.png' (empty file)"
    )
    assert "data_faults.csv" in caught.value.remedy
    assert "dvc add data" in caught.value.remedy
    written = pd.read_csv(tmp_path / "artifacts" / "data_faults.csv")
    assert written["path"].tolist() == ["train/cat/a.png", "train/cat/b.png", "test/bird"]


def test_no_faults_write_and_raise_nothing(tree: Tree, sound: Sound, tmp_path: Path) -> None:
    raise_on_faults(check(*scan(tree(sound), ValidationShare(0.2, 0))), tmp_path / "faults.csv")
    assert not (tmp_path / "faults.csv").exists()


def test_the_cause_is_one_line_whatever_the_name(tree: Tree, sound: Sound, tmp_path: Path) -> None:
    faults = check(*scan(tree({**sound, "train/cat/a\nb.png": b""}), ValidationShare(0.2, 0)))
    with pytest.raises(UserError) as caught:
        raise_on_faults(faults, tmp_path / "faults.csv")
    assert "\n" not in caught.value.cause


def test_the_table_is_cut_to_a_screen() -> None:
    faults = pd.DataFrame(
        [(f"{i}.png", "unreadable file", "truncated", "remove") for i in range(25)], columns=FAULT_COLUMNS
    )
    lines = fault_table(faults).splitlines()
    assert lines[0] == "0.png: unreadable file (truncated)"
    assert lines[-1] == "... and 5 more"
    assert len(lines) == 21
    assert fault_table(faults.head(1)).count("\n") == 0


def test_a_damaged_manifest_is_no_fault_of_the_data(tree: Tree, sound: Sound) -> None:
    manifest, unreadable = scan(tree(sound), ValidationShare(0.2, 0))
    with pytest.raises(UserError, match="column"):
        check(manifest.drop(columns="mode"), unreadable)


def many(count: int) -> pd.DataFrame:
    numbers = [f"{i:05d}" for i in range(count)]
    splits = [{0: "validation", 1: "test"}.get(i // 100, "train") for i in range(count)]
    return pd.DataFrame({
        "path": [f"train/{i[-2:]}/{i}.jpg" for i in numbers], "label": [i[-2:] for i in numbers],
        "split": splits, "width": 300, "height": 200, "mode": "RGB", "bytes": 1000,
        "sha256": [hashlib.sha256(i.encode()).hexdigest() for i in numbers],
    }).astype({"path": "str", "label": "str", "split": "str", "mode": "str", "sha256": "str"})  # fmt: skip


@pytest.mark.parametrize("all_across_splits", [False, True])
def test_no_loop_calls_pandas_for_each_image(all_across_splits: bool) -> None:
    calls = 0

    def counting(_frame: object, event: str, _what: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    def work(count: int) -> int:
        nonlocal calls
        manifest = many(count)
        if all_across_splits:
            manifest.loc[::2, "split"] = "test"
            manifest["sha256"] = manifest["sha256"].where(manifest.index % 2 == 0, manifest["sha256"].shift())
        calls = 0
        sys.setprofile(counting)
        faults = check(manifest, pd.DataFrame({"path": [], "reason": []}, dtype="str"))
        sys.setprofile(None)
        assert (len(faults) >= count) if all_across_splits else faults.empty
        return calls

    assert (work(2_000) - work(1_000)) / 1_000 < 30, "one call of pandas is a hundred of Python's"
