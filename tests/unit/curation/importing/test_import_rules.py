"""An import never makes a data/ that `validate` refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from picture_fixtures import data_params

from adaptformer.base.errors import UserError
from adaptformer.config.params import DataParams
from adaptformer.curation.checks import faults
from adaptformer.curation.importing import csv_list
from adaptformer.curation.importing.copying import Manner
from adaptformer.curation.importing.growth import add_images
from adaptformer.curation.importing.importing import import_folder
from adaptformer.data import manifest

Tree = Callable[..., Path]
PARAMS = data_params(validation_fraction=0.15, group_pattern=csv_list.GROUP_PATTERN)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def accepted(data: Path, params: DataParams = PARAMS) -> dict[str, int]:
    """Images by split, after `validate` found no fault."""
    table, unreadable = manifest.scan(
        data, manifest.ValidationShare(params.validation_fraction, params.seed, params.group_pattern)
    )
    faulty = faults.check(table, unreadable, params.group_pattern)
    assert faulty.empty, faulty
    return table["split"].value_counts().to_dict()


def grouped(tree: Tree, name: Callable[[int], str]) -> Path:
    images = tree({f"{label}{i:02}__x.png": 100 * n + i for n, label in enumerate("cd") for i in range(12)}, "images")
    names = sorted(path.name for path in images.iterdir())
    rows = [f"{file},{file[0]}at,{name(index)}" for index, file in enumerate(names)]
    (images / "list.csv").write_text("path,label,group\n" + "\n".join(rows))
    return images / "list.csv"


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_few_groups_still_leave_no_split_empty(tree: Tree, data: Path, size: int) -> None:
    summary = import_folder(grouped(tree, lambda i: f"g{i // size}"), data, PARAMS, False)
    assert all(summary.images.values())
    assert accepted(data) == summary.images


@pytest.mark.parametrize("size", [6, 12])
def test_groups_that_cannot_be_divided_are_refused_with_the_remedy(tree: Tree, data: Path, size: int) -> None:
    with pytest.raises(UserError, match="has no image: none of the") as caught:
        import_folder(grouped(tree, lambda i: f"g{i // size}"), data, PARAMS, False)
    assert "at least three groups" in caught.value.remedy
    assert not data.exists()


def test_names_of_files_do_not_clash_with_the_pattern_of_groups(tree: Tree, data: Path) -> None:
    import_folder(grouped(tree, lambda i: f"g{i // 2}" if i % 3 else ""), data, PARAMS, False)
    found = {path.name.partition("__")[0] for path in data.rglob("*__*")}
    assert all(group.startswith("g") for group in found)
    accepted(data)


def test_a_list_with_groups_is_not_added_where_the_pattern_would_not_find_them(tree: Tree, data: Path) -> None:
    import_folder(grouped(tree, lambda i: f"g{i // 2}"), data, PARAMS, False)
    with pytest.raises(UserError, match="would not find them"):
        add_images(grouped(tree, lambda i: f"h{i}"), data, PARAMS.model_copy(update={"group_pattern": None}))


def split_tree(**more: int) -> dict[str, bytes | int]:
    usual = {
        f"{split}/{label}/{i}.png": 1000 * s + 100 * n + i
        for s, split in enumerate(("train", "val", "test"))
        for n, label in enumerate(("cat", "dog"))
        for i in range(4)
    }
    return {**usual, **more}


@pytest.mark.parametrize(
    ("more", "cause"),
    [
        ({"test/owl/1.png": 7001}, r"test/owl: class missing in train \(owl has no usable image in train\)"),
        ({"train/owl/1.png": 7001, "test/owl/1.png": 7002}, r"train/owl: class with one image"),
        ({"train/cat/9.png": 2000}, r"train/cat/9\.png: the same bytes are in test"),
        (
            {"train/cat/9.png": 100},
            r"train/cat/9\.png: the same bytes are in another class: train/dog/0\.png, and 1 more",
        ),
    ],
)
def test_what_validate_would_refuse_is_refused(tree: Tree, data: Path, more: dict[str, int], cause: str) -> None:
    source = tree({**split_tree(), **more}, "source")
    with pytest.raises(UserError, match=cause):
        import_folder(source, data, PARAMS, False)
    assert not data.exists()


def test_contradictions_are_left_out_if_wanted_and_the_test_image_stays(
    tree: Tree, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    more = {"train/cat/9.png": 2000, "val/dog/9.png": 2100, "train/cat/8.png": 900, "train/dog/8.png": 900}
    manner = Manner(skip_bad=True, left_out=tmp_path / "left_out.csv")
    summary = import_folder(tree({**split_tree(), **more}, "source"), data, PARAMS, False, manner)
    assert summary.images == {"train": 8, "validation": 8, "test": 8}
    assert accepted(data) == summary.images
    assert [line.partition(",")[0] for line in manner.left_out.read_text().splitlines()[1:]] == [  # type: ignore[union-attr]
        "train/cat/8.png", "train/cat/9.png", "train/dog/8.png", "val/dog/9.png",
    ]  # fmt: skip
    assert any("the same bytes are in test" in line for line in caplog.messages)


@pytest.mark.parametrize("seed", range(4))
def test_a_new_class_has_images_to_train_and_validate(tree: Tree, data: Path, seed: int) -> None:
    params = PARAMS.model_copy(update={"test_fraction": 0.8, "seed": seed})
    import_folder(
        tree({f"{c}/{i}.png": 100 * n + i for n, c in enumerate("ab") for i in range(10)}, "0"), data, params, False
    )
    add_images(tree({f"fox/{i}.png": 500 + i for i in range(3)}, "1"), data, params)
    accepted(data, params)
    with pytest.raises(UserError, match=r"train/owl: class with one image|owl has no usable image in train"):
        add_images(tree({"owl/1.png": 900}, "2"), data, params)


def test_images_too_small_are_no_usable_images(tree: Tree, data: Path, picture: Callable[..., bytes]) -> None:
    source = tree({**split_tree(), "train/cat/line.png": picture(width=9, height=1)}, "source")  # type: ignore[dict-item]
    with pytest.raises(UserError, match=r"train/cat/line\.png: 9 x 1 pixels: too small"):
        import_folder(source, data, PARAMS, False)


def test_an_empty_validation_split_is_a_fault_with_its_remedy(tree: Tree) -> None:
    data = tree({f"{split}/{c}/{g}__{i}.png": 100 * n + 10 * s + i for s, split in enumerate(("train", "test"))
                 for n, (c, g) in enumerate((("cat", "a"), ("dog", "b"))) for i in range(4)})  # fmt: skip
    params = PARAMS.model_copy(update={"group_pattern": None})
    table, unreadable = manifest.scan(
        data, manifest.ValidationShare(params.validation_fraction, params.seed, "/(.+?)__")
    )
    (fault,) = faults.check(table, unreadable, "/(x)__").itertuples(index=False)
    assert (fault.path, fault.fault) == ("validation", "empty split")
    assert "three groups" in fault.remedy


def test_a_truncated_jpeg_is_taken_if_wanted_and_told(
    tree: Tree, data: Path, picture: Callable[..., bytes], tmp_path: Path
) -> None:
    whole = picture(1, width=64, height=64, format="JPEG", quality=95)
    cut = {"train/cat/end.jpg": whole[:-2], "train/cat/half.jpg": picture(2, width=64, height=64, format="JPEG")[:2500]}
    source = tree({**split_tree(), **cut}, "source")  # type: ignore[dict-item]
    with pytest.raises(UserError, match=r"2 of 26 files .*end\.jpg: truncated"):
        import_folder(source, data, PARAMS, False)
    manner = Manner(repair=True, left_out=tmp_path / "left_out.csv")
    assert import_folder(source, data, PARAMS, False, manner).images["train"] == 10
    assert (data / "train/cat/end.jpg").read_bytes() == whole
    first, second = (tmp_path / "repaired.csv").read_text().splitlines()[1:]
    assert first == 'train/cat/end.jpg,"a truncated JPEG, repaired: no row is grey, it is less sharp"'
    assert second.startswith("train/cat/half.jpg")
    assert "of 64 rows are grey" in second
    accepted(data)
