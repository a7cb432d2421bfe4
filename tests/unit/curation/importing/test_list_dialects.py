"""Lists as people's programs write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from adaptformer.curation.importing import csv_list
from adaptformer.curation.importing.listing import Listing

Tree = Callable[..., Path]
ROWS = [("img/a.jpg", "cat"), ("img/b.jpg", "dog")]


@pytest.fixture
def source(tree: Tree) -> Path:
    return tree({"img/a.jpg": b"a", "img/b.jpg": b"b"}, "source")


def read(source: Path, text: str, encoding: str = "utf-8") -> Listing:
    (source / "list.csv").write_bytes(text.encode(encoding))
    return csv_list.images_of(source / "list.csv")


def listed(separator: str = ",", end: str = "\n", path: Callable[[str], str] = str) -> str:
    return "".join(f"{path(name)}{separator}{label}{end}" for name, label in ROWS)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("path,label\n" + listed(), "utf-8"),
        ("path,label\r\n" + listed(end="\r\n"), "utf-8-sig"),
        ("path,label\n" + listed(), "utf-16"),
        ("path;label\n" + listed(";"), "utf-8"),
        ("path\tlabel\n" + listed("\t"), "utf-8"),
        ("path, label\n" + listed(", "), "utf-8"),
        ("Path,Label\n" + listed(), "utf-8"),
        ("file_name,class\n" + listed(), "utf-8"),
        ("image,label\n" + listed(), "utf-8"),
        ("filepath,category\n" + listed(), "utf-8"),
        ("path,label,\n" + listed(end=",\n"), "utf-8"),
        (",path,label\n" + "".join(f"{n},{a},{b}\n" for n, (a, b) in enumerate(ROWS)), "utf-8"),
        ("path,label\n" + "".join(f'"{a}","{b}"\n' for a, b in ROWS), "utf-8"),
        ("path,label\n" + listed(path=lambda name: name.replace("/", "\\")), "utf-8"),
        ("path,label\n" + listed(path=lambda name: "C:\\data\\" + name.replace("/", "\\")), "utf-8"),
        ("path,label\n" + listed(path=lambda name: f"/home/other/{name}"), "utf-8"),
        ("path,label\n" + listed(path=lambda name: name.removesuffix(".jpg")), "utf-8"),
        ("image_id,label\n" + listed(path=lambda name: Path(name).stem), "utf-8"),
        ("path,label\n" + listed(path=lambda name: f" {name} "), "utf-8"),
    ],
)
def test_all_of_these_list_the_same(source: Path, text: str, encoding: str) -> None:
    found = read(source, text, encoding)
    assert [(image.path.resolve(), image.label) for image in found.images] == [
        ((source / name).resolve(), label) for name, label in ROWS
    ]
    assert not any(image.fault for image in found.images)


def test_how_a_list_was_read_is_told(source: Path) -> None:
    text = "path,label,age,\n" + "".join(f"C:\\x\\{name},{label}ß,3,\n" for name, label in ROWS)
    found = read(source, text.replace("img/", "img\\"), "cp1252")
    assert [image.label for image in found.images] == ["catß", "dogß"]
    assert found.remarks == [
        "read as cp1252",
        "ignored the columns age, one without a name",
        "found 2 images below the list's folder, by the ends of their paths",
    ]


def test_a_relative_path_means_one_file_alone(source: Path) -> None:
    found = read(source, "path,label\nother/a.jpg,cat\na.jpg,dog\n")
    assert [image.path for image in found.images] == [source / "other/a.jpg", source / "a.jpg"]


def test_blank_and_repeated_rows_are_counted_and_missing_labels_are_faults(source: Path) -> None:
    found = read(source, "path,label\n" + listed() + "img/a.jpg,cat\nimg/a.jpg,\n,\n\n,,\n")
    assert [(image.label, image.fault) for image in found.images] == [("cat", ""), ("dog", ""), ("", "no label")]
    assert list(found.left_out) == [
        ("line 6", "a blank row"), ("line 7", "a blank row"), ("line 8", "a blank row"),
        ("line 4", "a row that is listed before"),
    ]  # fmt: skip


def test_labels_that_may_be_missing_values_are_named(source: Path) -> None:
    found = read(source, "path,label\nimg/a.jpg,nan\nimg/b.jpg,dog\n")
    assert list(found.remarks) == ["the label 'nan' is taken as a class: is it a missing value?"]


def test_splits_have_many_names(source: Path) -> None:
    found = read(source, "path,label,subset\nimg/a.jpg,cat,Training\nimg/b.jpg,dog,dev\n")
    assert [image.split for image in found.images] == ["train", "validation"]


@pytest.mark.parametrize("label", ["می\u200cخواهم", "👨\u200d👩\u200d👧", "tabby\u00a0cat", "NA", "001", "=1+1"])
def test_letters_of_all_languages_are_labels(source: Path, label: str) -> None:
    assert read(source, f"path,label\nimg/a.jpg,{label}\n").images[0].label == label
