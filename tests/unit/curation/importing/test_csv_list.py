"""A list of images as the source of an import."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from picture_fixtures import data_params

from adaptformer.base.errors import UserError
from adaptformer.curation.importing import csv_list, rules
from adaptformer.curation.importing.importing import import_folder
from adaptformer.data import groups

Tree = Callable[..., Path]
PARAMS = data_params(group_pattern=csv_list.GROUP_PATTERN)


def listed(folder: Path, text: str) -> Path:
    path = folder / "list.csv"
    path.write_text(text)
    return path


def test_splits_labels_and_groups_are_those_of_the_list(tree: Tree, tmp_path: Path) -> None:
    images = tree({f"a/{i}.png": i for i in range(6)}, "images")
    rows = [
        "0.png,cat,train,x", "1.png,dog,Train,x", "2.png,cat,val,y", "3.png,dog,test,", "4.png,cat,test,z",
        "5.png,dog,training,x",
    ]  # fmt: skip
    source = listed(images, "Path, label,split,group\n" + "\n".join(f"a/{row}" for row in rows))
    data = tmp_path / "data"
    summary = import_folder(source, data, PARAMS, replace=False)
    assert summary.images == {"train": 3, "validation": 1, "test": 2}
    found = sorted(path.relative_to(data).as_posix() for path in data.rglob("*.png"))
    assert found == [
        "test/cat/z__4.png", "test/dog/3.png", "train/cat/x__0.png", "train/dog/x__1.png", "train/dog/x__5.png",
        "validation/cat/y__2.png",
    ]  # fmt: skip
    assert groups.of([path.partition("/")[2] for path in found], PARAMS.group_pattern) == ["z", "", "x", "x", "x", "y"]
    assert (data / "train/cat/x__0.png").read_bytes() == (images / "a/0.png").read_bytes()


def test_without_splits_they_are_made_of_whole_groups(tree: Tree, tmp_path: Path) -> None:
    images = tree({f"{i}.png": i for i in range(40)}, "images")
    text = "path,label,group\n" + "\n".join(f"{i}.png,{'cat' if i % 2 else 'dog'},g{i // 4}" for i in range(40))
    data = tmp_path / "data"
    assert import_folder(listed(images, text), data, PARAMS, replace=False).made == ("test", "validation")
    splits: dict[str, set[str]] = {}
    for path in data.rglob("*.png"):
        splits.setdefault(path.name.partition("__")[0], set()).add(path.relative_to(data).parts[0])
    assert len(splits) == 10
    assert {len(found) for found in splits.values()} == {1}


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", r"has the columns \(none\)"),
        ("path,label\n", "lists no images"),
        ("foto,label\na.png,cat", "has the columns foto, label"),
        ("path,path,label\na.png,b.png,cat", "has the column 'path' 2 times"),
        ("path,label\na.png,cat,me", "line 2: 3 fields, and the header has 2"),
        ('path,label\n"a.png,cat\n', "cannot be read: line 2"),
        ("path,label\nhttps://a/b.png,cat", "line 2: an address"),
        ("path,label\na.png,cat\na.png,dog", "line 3: a.png is 'dog', and in line 2 'cat'"),
        ("path,label\n,cat\nb.png,x\nc.png,a/b", "line 2: no path, and 1 more"),
        ("path,label,split\na.png,cat,fold1", "line 2: no such split: 'fold1'"),
        ("path,label,split\na.png,cat,test", "no image is in train"),
        ("path,label,group\na.png,cat,x/y", "line 2: the group 'x/y' has a slash"),
        ("path,label,group\na.png,cat,.x", "line 2: the group '.x' begins with a dot"),
        ("path,label,group\na.png,cat,x__1", "line 2: the group 'x__1' has two underscores"),
        ("path,label\na.png,..", r"line 2: the label '\.\.' begins with a dot"),
        ("path,label\na.png,.", r"line 2: the label '\.' begins with a dot"),
        ("path,label\na.png,.hidden", r"line 2: the label '\.hidden' begins with a dot"),
        ("path,label\na.png,Thumbs.db", "line 2: the label 'Thumbs.db' is one that systems"),
        ("path,label\na.png,c\x1b[2Jat", r"line 2: the label 'c\\x1b\[2Jat' has characters that cannot be shown"),
        (f"path,label\na.png,{'l' * 300}", "line 2: the label 'l.* is longer than 255 bytes"),
        ("path,label\na\0.png,cat", "line 2: the path has a NUL character"),
        ("path,label\na.png,Cat\nb.png,cat", "'Cat' and 'cat' differ only in case"),
    ],
)
def test_lists_that_cannot_be_meant(tmp_path: Path, text: str, cause: str) -> None:
    with pytest.raises(UserError, match=cause) as caught:
        rules.checked(csv_list.images_of(listed(tmp_path, text)))
    assert "\n" not in caught.value.cause


def test_files_that_are_not_there_are_all_named(tree: Tree, tmp_path: Path) -> None:
    images = tree({"1.png": 1}, "images")
    source = listed(images, "path,label\n1.png,cat\n2.png,dog\n3.png,dog")
    with pytest.raises(UserError, match="2 of 3 files") as caught:
        import_folder(source, tmp_path / "data", PARAMS, replace=False)
    assert [note.partition(":")[0] for note in caught.value.__notes__] == ["2.png", "3.png"]
