"""Folders as people have them: splits by any usual name, links, litter, empty classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from adaptformer.base.errors import UserError
from adaptformer.curation.importing.class_folders import images_of
from adaptformer.curation.importing.listing import LeftOut, Listing

Tree = Callable[..., Path]


def below(*folders: str) -> dict[str, bytes | int]:
    return {f"{folder}/{n}.png": b"x" for folder in folders for n in range(2)}


def counts(found: Listing) -> dict[tuple[str, str], int]:
    return dict(Counter((image.split, image.label) for image in found.images))


def reasons(found: Listing) -> dict[str, str]:
    return dict(found.left_out)


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("Training", "Testing"), ("train", "test")),
        (("train", "dev", "test"), ("train", "validation", "test")),
        (("TRAIN", "eval"), ("train", "validation")),
        (("seg_train/seg_train", "seg_test/seg_test"), ("train", "test")),
        (("train/Train", "test"), ("train", "test")),
        (("images-training", "images-validation"), ("train", "validation")),
    ],
)
def test_splits_have_many_names(tree: Tree, names: tuple[str, ...], splits: tuple[str, ...]) -> None:
    found = images_of(tree(below(*(f"{name}/{label}" for name in names for label in ("cat", "dog"))), "source"))
    assert counts(found) == {(split, label): 2 for split in splits for label in ("cat", "dog")}
    assert not found.left_out


@pytest.mark.parametrize(
    "classes", [("train", "plane"), ("train_station", "test_tube"), ("seg_train", "seg_test", "other")]
)
def test_classes_may_have_words_of_splits_in_their_names(tree: Tree, classes: tuple[str, ...]) -> None:
    assert counts(images_of(tree(below(*classes), "source"))) == {("", label): 2 for label in classes}


@pytest.mark.parametrize("name", ["seg_pred/seg_pred", "test", "unlabelled"])
def test_a_folder_without_classes_beside_splits_is_named(tree: Tree, name: str) -> None:
    splits = ("seg_train/seg_train", "seg_test/seg_test") if name.startswith("seg") else ("train", "val")
    source = tree(below(*(f"{split}/{label}" for split in splits for label in "ab"), name), "source")
    found = images_of(source)
    assert len(found.images) == 8
    assert reasons(found) == {name.partition("/")[0]: "a folder beside the splits whose images (2) have no classes"}


def test_links_to_folders_are_followed_once_and_loops_noticed(tree: Tree, tmp_path: Path) -> None:
    source = tree(below("cat", "real"), "source")
    outside = tree(below("extra", "owls", "dogs"), "outside")
    (source / "owl").mkdir()
    (source / "cat/batch2").symlink_to(outside / "extra")
    (source / "owl/b1").symlink_to("../../outside/owls")
    (source / "dog").symlink_to(outside / "dogs")
    (outside / "dogs/loop").symlink_to(".")
    (source / "real/again").symlink_to("../cat")
    (source / "z").symlink_to("real")
    found = images_of(source)
    assert counts(found) == {("", "cat"): 4, ("", "owl"): 2, ("", "dog"): 2, ("", "real"): 2}
    read = "a link to a folder that is read already"
    assert set(found.left_out) == {
        LeftOut("dog/loop", f"{read}: dog"), LeftOut("real/again", f"{read}: cat"), LeftOut("z", f"{read}: real"),
    }  # fmt: skip


def test_litter_and_all_else_that_is_left_out_is_told(tree: Tree) -> None:
    litter = {
        "cat/@eaDir/0.png/SYNOPHOTO_THUMB_M.jpg": "of a system or a photo program, by its name",
        "cat/Icon\r": "of a system or a photo program, by its name",
        "cat/ehthumbs.db": "of a system or a photo program, by its name",
        "cat/Thumbs.db": "of a system or a photo program, by its name",
        "cat/Previews.lrdata/x": "of a system or a photo program, by its name",
        "cat/.picasaoriginals/0.png": "hidden",
        "cat/._0.png": "hidden",
        ".ipynb_checkpoints/x.png": "hidden",
        "#recycle/x.png": "of a system or a photo program, by its name",
        "README.md": "a file outside of class folders",
    }
    source = tree({**below("cat", "dog"), **dict.fromkeys(litter, b"x")}, "source")
    (source / "owl").mkdir()
    (source / "pair/inner").mkdir(parents=True)
    found = images_of(source)
    assert counts(found) == {("", "cat"): 2, ("", "dog"): 2}
    told = reasons(found)
    assert told.pop("owl") == told.pop("pair") == "an empty class folder"
    expected = {}
    for path, reason in litter.items():
        parts = path.split("/")
        depth = next(i for i, part in enumerate(parts) if part not in {"cat"})
        expected["/".join(parts[: depth + 1])] = reason
    assert told == expected


def test_one_level_too_high_or_too_low_is_noticed(tree: Tree) -> None:
    source = tree(below("2023/cat", "2023/dog", "2024/cat", "2024/dog"), "years")
    (remark,) = images_of(source).remarks
    assert remark == "each of the classes 2023, 2024 holds the same folders, cat, dog: are those the classes?"
    source = tree(below("train/cat", "train/dog", "test/cat"), "split")
    (left_out,) = images_of(source / "train").left_out
    assert left_out.place == str(source / "test")
    assert f"give {source} for both" in left_out.reason
    with pytest.raises(UserError, match="holds no images") as caught:
        images_of(source / "train/cat")
    assert f"if cat is itself a class, give {source / 'train'}" in caught.value.remedy


def test_a_folder_that_cannot_be_listed_is_the_users_error(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    source, listed = tree(below("cat", "dog"), "source"), Path.iterdir

    def iterdir(path: Path):  # type: ignore[no-untyped-def]
        if path.name == "dog":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    with pytest.raises(UserError, match=r"cannot list .*dog: Permission denied"):
        images_of(source)
