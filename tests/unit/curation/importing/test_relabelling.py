"""Labels corrected by a CSV file, and taken back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from picture_fixtures import data_params

from adaptformer.base.errors import UserError
from adaptformer.curation.importing import relabelling
from adaptformer.data import manifest

Tree = Callable[..., Path]
PARAMS = data_params()
IMAGES = {
    **{f"train/{label}/{i}.png": 100 * n + i for n, label in enumerate(("cat", "dog", "fox")) for i in range(8)},
    **{f"test/{label}/{i}.png": 100 * n + 50 + i for n, label in enumerate(("cat", "dog", "fox")) for i in range(3)},
}


@pytest.fixture
def data(tree: Tree) -> Path:
    return tree(IMAGES)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "relabelled.csv"


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write(tmp_path: Path, *lines: str, head: str = "path,label,new_label") -> Path:
    path = tmp_path / "answers.csv"
    path.write_text("\n".join([head, *lines]) + "\n")
    return path


def split_of(data: Path) -> dict[str, str]:
    table, _ = manifest.scan(data, manifest.ValidationShare(PARAMS.validation_fraction, PARAMS.seed))
    return dict(zip(table["sha256"], table["split"], strict=True))


def test_images_get_their_class_keep_their_split_and_the_rest_is_as_it_was(
    data: Path, tmp_path: Path, journal: Path
) -> None:
    before, splits = content(data), split_of(data)
    answers = write(tmp_path, "train/cat/1.png,cat,dog", "test/dog/0.png,dog,fox", "train/fox/3.png,fox,")
    done = relabelling.relabel(answers, data, PARAMS, journal)
    after = content(data)
    assert sorted(after.values()) == sorted(before.values())
    assert split_of(data) == splits
    names = [path for path, pixels in after.items() if pixels == before["train/cat/1.png"]]
    assert [name.split("/")[1:] for name in names] in ([["dog", "1.png"]], [["dog", "1-2.png"]])
    assert after["test/fox/0-2.png"] == before["test/dog/0.png"]  # 0.png was taken
    assert after["test/fox/0.png"] == before["test/fox/0.png"]
    assert done.changed == {("cat", "dog"): 1, ("dog", "fox"): 1}
    assert done.frozen == 6
    assert done.lines()[0] == "relabelled 2 images; every image kept its split"
    assert "  cat -> dog: 1" in done.lines()
    assert "moved the 6 images" in done.lines()[-1]


def test_undo_goes_back_one_relabelling_at_a_time_to_the_same_paths(data: Path, tmp_path: Path, journal: Path) -> None:
    first = content(data)
    relabelling.relabel(write(tmp_path, "train/cat/1.png,cat,dog"), data, PARAMS, journal)
    second = content(data)
    swapped = write(tmp_path, "test/dog/0.png,dog,fox", "test/fox/0.png,fox,dog")
    relabelling.relabel(swapped, data, PARAMS, journal)
    assert relabelling.undo(data, journal) == ["restored the labels of 2 images, and the place of every image"]
    assert content(data) == second
    assert relabelling.undo(data, journal) == ["restored the labels of 1 images, and the place of every image"]
    assert content(data) == first
    with pytest.raises(UserError, match="no relabelling is left to undo"):
        relabelling.undo(data, journal)


def test_no_turned_bit_of_the_list_takes_another_relabelling_back(data: Path, tmp_path: Path, journal: Path) -> None:
    relabelling.relabel(write(tmp_path, "train/cat/1.png,cat,dog"), data, PARAMS, journal)
    after, whole = content(data), journal.read_bytes()
    for bit in range(0, 8 * len(whole), 7):
        broken = bytearray(whole)
        broken[bit // 8] ^= 1 << bit % 8
        journal.write_bytes(broken)
        with pytest.raises(UserError, match=r"relabelled\.csv is not what was written") as caught:
            relabelling.undo(data, journal)
        assert "copy" in caught.value.remedy
    assert content(data) == after
    journal.write_bytes(whole)
    journal.with_name("relabelled.csv.sha256").unlink()  # as earlier versions wrote it
    assert relabelling.undo(data, journal) == ["restored the labels of 1 images, and the place of every image"]


def test_after_other_changes_undo_changes_nothing(data: Path, tmp_path: Path, journal: Path) -> None:
    relabelling.relabel(write(tmp_path, "test/dog/0.png,dog,cat"), data, PARAMS, journal)
    (data / "test/cat/0-2.png").unlink()
    before = content(data)
    with pytest.raises(UserError, match=r"has changed since the last relabelling: test/cat/0-2\.png is gone"):
        relabelling.undo(data, journal)
    (data / "test/cat/0-2.png").write_bytes(b"x")
    (data / "test/dog/0.png").write_bytes(b"y")
    with pytest.raises(UserError, match="has taken the place"):
        relabelling.undo(data, journal)
    assert content(data) == before | {"test/cat/0-2.png": b"x", "test/dog/0.png": b"y"}


@pytest.mark.parametrize(
    ("lines", "cause"),
    [
        (["train/cat/1.png,cat,doog"], r"line 2: no class 'doog' \(is it 'dog'\?\)"),
        (["train/cat/9.png,cat,dog"], r"line 2: no image train/cat/9\.png"),
        (["train/cat/1.png,cat,dog", "train/cat/1.png,cat,fox"], r"line 3: train/cat/1\.png has two new labels"),
        (["train/cat/1.png,cat,x", "train/cat/2.png,cat,y"], "line 2: no class 'x', and 1 more"),
        (["train/cat/1.png,cat,cat", "train/cat/2.png,cat,"], "changes no label"),
        ([], "changes no label"),
    ],
)
def test_a_file_that_cannot_be_used_changes_nothing(
    lines: list[str], cause: str, data: Path, tmp_path: Path, journal: Path
) -> None:
    before = content(data)
    with pytest.raises(UserError, match=cause):
        relabelling.relabel(write(tmp_path, *lines), data, PARAMS, journal)
    assert content(data) == before
    assert not journal.exists()


def test_all_wrong_lines_are_named_at_once(data: Path, tmp_path: Path, journal: Path) -> None:
    answers = write(tmp_path, "train/cat/1.png,cat,x", "train/cat/2.png,cat,y", "train/cat/99.png,cat,dog")
    with pytest.raises(UserError) as refused:
        relabelling.relabel(answers, data, PARAMS, journal)
    assert refused.value.__notes__ == ["line 3: no class 'y'", "line 4: no image train/cat/99.png"]


def test_a_file_with_other_columns_says_which_are_needed(data: Path, tmp_path: Path, journal: Path) -> None:
    with pytest.raises(UserError, match="has the columns path, class"):
        relabelling.relabel(write(tmp_path, "train/cat/1.png,dog", head="path,class"), data, PARAMS, journal)
    with pytest.raises(UserError, match="cannot be read"):
        relabelling.relabel(tmp_path / "none.csv", data, PARAMS, journal)


def test_where_a_disk_refuses_nothing_changes(
    data: Path, tmp_path: Path, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(data)

    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(relabelling.growth, "link", full)
    with pytest.raises(UserError, match="No space left"):
        relabelling.relabel(write(tmp_path, "train/cat/1.png,cat,dog"), data, PARAMS, journal)
    assert content(data) == before
    assert not journal.exists()
