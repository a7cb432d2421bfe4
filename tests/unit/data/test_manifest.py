import hashlib
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from adaptformer.base import integrity
from adaptformer.base.errors import UserError
from adaptformer.data import image_files
from adaptformer.data.manifest import COLUMNS, ValidationShare, class_names, read_manifest, rows, scan, write_manifest

Tree = Callable[..., Path]
Sound = dict[str, bytes | int]


def test_a_row_tells_all_about_an_image(tree: Tree, sound: Sound, picture: Callable[..., bytes]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = picture(77, width=8, height=6, exif=exif)
    manifest, unreadable = scan(tree({**sound, "test/dog/x.png": content}), ValidationShare(0.2, 0))
    assert tuple(manifest.columns) == COLUMNS
    row = manifest.set_index("path").loc["test/dog/x.png"].to_dict()
    assert row == {
        "label": "dog", "split": "test", "width": 6, "height": 8, "mode": "RGB", "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }  # fmt: skip
    assert manifest["path"].is_monotonic_increasing
    assert unreadable.empty


def test_validation_is_carved_from_train_and_keeps_its_path(tree: Tree, sound: Sound) -> None:
    manifest, _ = scan(tree(sound), ValidationShare(0.2, 0))
    carved = rows(manifest, "validation")
    assert carved["label"].tolist() == ["cat", "dog"]
    assert carved["path"].str.startswith("train/").all()
    assert len(rows(manifest, "train")) == 8
    assert len(rows(manifest, "test")) == 4
    other = {
        seed: tuple(rows(scan(tree(sound), ValidationShare(0.2, seed))[0], "validation")["path"]) for seed in range(5)
    }
    assert len(set(other.values())) > 1


def test_a_given_validation_split_is_left_alone(tree: Tree, sound: Sound) -> None:
    manifest, _ = scan(tree({**sound, "validation/cat/v.png": 900}), ValidationShare(0.5, 0))
    assert rows(manifest, "validation")["path"].tolist() == ["validation/cat/v.png"]
    assert len(rows(manifest, "train")) == 10


def test_unreadable_files_are_listed_with_their_reason(
    tree: Tree, sound: Sound, picture: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    large = picture(width=64, height=64, format="JPEG")
    data = tree({
        **sound, "train/cat/empty.png": b"", "train/cat/page.png": b"<html>", "train/dog/half.jpg": large[:2000],
        "train/stray.png": 1, "test/cat/secret.png": 1,
    })  # fmt: skip
    read = image_files.read

    def guarded(path: Path, limit: int | None = None) -> bytes:
        if path.name == "secret.png":
            raise PermissionError(13, "Permission denied")
        return read(path, limit)

    monkeypatch.setattr(image_files, "read", guarded)
    manifest, unreadable = scan(data, ValidationShare(0.2, 0))
    assert len(manifest) == len(sound)
    assert dict(unreadable.itertuples(index=False)) == {
        "test/cat/secret.png": "Permission denied",
        "train/cat/empty.png": "empty file",
        "train/cat/page.png": "not an image (JPEG, PNG, GIF, BMP, WEBP, TIFF, PPM, AVIF): it is a web page",
        "train/dog/half.jpg": "truncated",
        "train/stray.png": "not in a class folder",
    }


def test_missing_data_and_splits_name_the_command(tree: Tree, tmp_path: Path) -> None:
    for data, cause in (
        (tmp_path / "nothing", "there are no images"),
        (tree({}, "empty"), "there are no images"),
        (tree({"test/cat/1.png": 1}, "no_train"), "has no train split"),
        (tree({"train/cat/1.png": 1}, "no_test"), "has no test split"),
    ):
        with pytest.raises(UserError, match=cause) as caught:
            scan(data, ValidationShare(0.2, 0))
        assert "adaptformer data import PATH" in caught.value.remedy
        assert "adaptformer data sample" in caught.value.remedy


def test_labels_stay_texts_through_the_file(tree: Tree, tmp_path: Path) -> None:
    labels = ["001", "0", "NA", "null", "1e5", "True", "a,b", 'say "hi"']
    data = tree({
        f"{split}/{label}/{i}.png": 1000 * s + 10 * c + i
        for s, (split, count) in enumerate((("train", 3), ("test", 1)))
        for c, label in enumerate(labels)
        for i in range(count)
    })  # fmt: skip
    manifest, _ = scan(data, ValidationShare(0.3, 0))
    write_manifest(tmp_path / "manifest.csv", manifest)
    again = read_manifest(tmp_path / "manifest.csv")
    pd.testing.assert_frame_equal(again, manifest)
    assert class_names(again) == sorted(labels)
    write_manifest(tmp_path / "again.csv", again)
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "manifest.csv").read_bytes()


def test_class_names_are_those_of_train(tree: Tree, sound: Sound) -> None:
    manifest, _ = scan(tree({**sound, "test/bird/1.png": 500}), ValidationShare(0.2, 0))
    assert class_names(manifest) == ["cat", "dog"]


@pytest.mark.parametrize("content", [b"", b"path,label\na,b\n", b"\xff\xfe", None])
def test_a_damaged_manifest_names_the_stage(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "manifest.csv").write_bytes(content)
        integrity.write_beside(tmp_path / "manifest.csv")
    with pytest.raises(UserError, match=r"cannot be (read|verified)") as caught:
        read_manifest(tmp_path / "manifest.csv")
    assert "adaptformer validate" in caught.value.remedy
    assert "\n" not in caught.value.cause


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (",cat,", ",dog,"),
        (",validation,", ",train,"),
        (",test,", ",train,"),
        ("train/cat", "train/dog"),
        ("\n", "\n\n"),
    ],
)
def test_a_manifest_that_was_edited_is_noticed(
    tree: Tree, sound: Sound, tmp_path: Path, before: str, after: str
) -> None:
    path = tmp_path / "manifest.csv"
    write_manifest(path, scan(tree(sound), ValidationShare(0.2, 0))[0])
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))
    with pytest.raises(UserError, match="is not what was written") as caught:
        read_manifest(path)
    assert "adaptformer validate" in caught.value.remedy
    assert "adaptformer data relabel" in caught.value.remedy


def test_a_manifest_without_its_checksum_is_not_believed(tree: Tree, sound: Sound, tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    write_manifest(path, scan(tree(sound), ValidationShare(0.2, 0))[0])
    integrity.beside(path).unlink()
    with pytest.raises(UserError, match="cannot be verified"):
        read_manifest(path)
