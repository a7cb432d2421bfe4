from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import small_project
from PIL import Image
from small_project import adaptformer

from adaptformer import files, params, storage
from adaptformer.dataset_import import shards
from adaptformer.errors import UserError


def png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (12, 12, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def unpacked(source: str | Path, tmp_path: Path) -> dict[str, bytes]:
    with shards.as_folder(str(source), tmp_path / "unpacked") as folder:
        found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert not (tmp_path / "unpacked").exists()
    return found


def test_a_tar_file_has_its_classes_beside_its_images(tmp_path: Path) -> None:
    members = {
        "0001.png": png(1), "0001.cls": b"cat\n", "a/0002.PNG": png(2), "a/0002.json": b'{"label": 7}',
        "a/0002.txt": b"a caption", "dog/0003.png": png(3), "._x/0004.png": b"litter",
    }  # fmt: skip
    expected = {"cat/0001.png": png(1), "7/a_0002.png": png(2), "dog/dog_0003.png": png(3)}
    assert unpacked(tar(tmp_path / "photos.tar", members), tmp_path) == expected
    assert unpacked(tar(tmp_path / "photos.tar.gz", members, "w:gz"), tmp_path) == expected


def test_shards_are_named_by_ranges_and_stars_and_have_splits(tmp_path: Path) -> None:
    for name, seed in (("x-train-08", 1), ("x-train-09", 2), ("x-train-10", 3), ("x-val-00", 4)):
        tar(tmp_path / f"s/{name}.tar", {"1.png": png(seed), "1.cls": b"a"})
    by_range = unpacked(tmp_path / "s/x-train-{08..10}.tar", tmp_path)
    assert by_range == {"train/a/1.png": png(1), "train/a/1-2.png": png(2), "train/a/1-3.png": png(3)}
    assert unpacked(tmp_path / "s/*.tar", tmp_path) == {**by_range, "validation/a/1.png": png(4)}


def test_some_shards_with_a_split_and_some_without_are_refused(tmp_path: Path) -> None:
    for name in ("train-0", "more-0"):
        tar(tmp_path / f"s/{name}.tar", {"1.png": png(1), "1.cls": b"a"})
    with pytest.raises(UserError, match=r"the name of .*more-0\.tar says no split"):
        unpacked(tmp_path / "s/*.tar", tmp_path)


def parquet(path: Path, columns: dict[str, Any], names: list[str] | None = None) -> Path:
    table = pa.table(columns)
    if names:
        about = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
    pq.write_table(table, path)
    return path


def test_parquet_holds_bytes_or_records_and_names_of_classes(tmp_path: Path) -> None:
    records = [{"bytes": png(1), "path": "one.png"}, {"bytes": png(2), "path": None}]
    path = parquet(tmp_path / "train-00000-of-00001.parquet", {"image": records, "label": [1, 0]}, ["cat", "dog"])
    assert unpacked(path, tmp_path) == {
        "train/dog/one.png": png(1), "train/cat/train-00000-of-00001-0000001.image": png(2)
    }  # fmt: skip
    plain = parquet(tmp_path / "plain.parquet", {"image": [png(1)], "label": ["bird"]})
    assert unpacked(plain, tmp_path) == {"bird/plain-0000000.image": png(1)}


@pytest.mark.parametrize(
    ("members", "cause"),
    [
        ({"1.png": b"x"}, "1 in .* has the class ''"),
        ({"1.png": b"x", "1.cls": b"../up"}, r"has the class '\.\./up'"),
        ({"\x1b[2J.png": b"x"}, r"\\x1b\[2J in .* has the class ''"),
        ({"1.png": b"x", "1.jpg": b"y", "1.cls": b"a"}, "1 in .* has 2 images: png, jpg"),
        ({"1.cls": b"a"}, "has 0 images: none"),
    ],
)
def test_a_sample_that_is_none_is_refused(members: dict[str, bytes], cause: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=cause):
        unpacked(tar(tmp_path / "photos.tar", members), tmp_path)
    assert not (tmp_path / "unpacked").exists()


@pytest.mark.parametrize("label", [b"NaN", b"1.5", b"true", b'{"a": 1}', b"[1]", b'".."', b'".hidden"'])
def test_a_label_that_is_no_name_is_refused(label: bytes, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"1 in .* has the class .*, which (is no text|begins with a dot)"):
        unpacked(tar(tmp_path / "a.tar", {"1.png": png(1), "1.json": b'{"label": ' + label + b"}"}), tmp_path)


def test_a_label_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    for ending, content in (("cls", b"K\xe4tzchen"), ("json", b'{"label": "x"'), ("json", b"[" * 100_000)):
        path = tar(tmp_path / "a.tar", {"1.png": png(1), f"1.{ending}": content})
        with pytest.raises(UserError, match=r"the label of 1 in .* cannot be read") as caught:
            unpacked(path, tmp_path)
        assert "\n" not in caught.value.cause


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_what_is_no_file_of_an_archive_is_named(kind: bytes, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, content in (("a/1.png", png(1)), ("a/2.png", b"")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if not content:
                info.type, info.linkname = kind, "1.png"
            archive.addfile(info, io.BytesIO(content))
    _, second = shards.samples(str(tmp_path / "a.tar"))
    assert second.fault.startswith("a link to 1.png" if kind in {tarfile.SYMTYPE, tarfile.LNKTYPE} else "no regular")
    with pytest.raises(UserError, match=r"a/2 in .*a\.tar: (a link to 1\.png|no regular file)"):
        unpacked(tmp_path / "a.tar", tmp_path)


def test_a_member_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    members = {"a/1.png": png(1), "a/2.png": b"x" * 100_000}
    parquet(tmp_path / "a.parquet", {"image": list(members.values()), "label": ["a", "a"]})
    for path in (tar(tmp_path / "a.tar", members), tmp_path / "a.parquet"):
        first, large = shards.samples(str(path), limit=50_000)
        assert first.content == png(1)
        assert "0.1 MB, more than the limit of 0 MB" in large.fault


def test_files_that_are_none_are_two_lines(tmp_path: Path) -> None:
    (tmp_path / "no.tar").write_bytes(b"no archive at all" * 100)
    parquet(tmp_path / "other.parquet", {"picture": [b"x"], "label": [1]})
    parquet(tmp_path / "text.parquet", {"image": ["x"], "label": [1]})
    for name, cause in (
        ("no.tar", r"cannot use .*no\.tar"),
        ("gone.tar", "does not exist"),
        ("gone-*.tar", "there is no .*gone-"),
        ("other.parquet", "has no column image, but picture, label"),
        ("text.parquet", "row 0 of .* holds no image's bytes"),
    ):
        with pytest.raises(UserError, match=cause):
            unpacked(tmp_path / name, tmp_path)


def test_a_store_holds_shards_or_a_folder_of_classes(tmp_path: Path) -> None:
    root = f"memory://{tmp_path.name}"
    storage.write(f"{root}/photos/train/cat/1.png", png(1))
    storage.write(f"{root}/photos/test/dog/2.png", png(2))
    expected = {"train/cat/1.png": png(1), "test/dog/2.png": png(2)}
    assert unpacked(f"{root}/photos", tmp_path) == expected
    for split, label, seed in (("train", "cat", 1), ("test", "dog", 2)):
        path = tar(tmp_path / "one.tar", {f"{seed}.png": png(seed), f"{seed}.cls": label.encode()})
        storage.write(f"{root}/shards/{split}-0.tar", path.read_bytes())
    assert unpacked(f"{root}/shards/*.tar", tmp_path) == expected


def test_the_command_imports_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    small_project.write_params(project)
    monkeypatch.chdir(project)
    members = {f"{number}.{ending}": content for number in range(20)
               for ending, content in (("png", png(number)), ("cls", b"ab"[number % 2 : number % 2 + 1]))}  # fmt: skip
    tar(tmp_path / "photos.tar", members)
    assert adaptformer("data", "import", str(tmp_path / "photos.tar")) == 0
    assert "20 images of 2 classes" in capsys.readouterr().out
    written = params.read().params
    assert (written.data.name, written.data.date) == ("photos", files.utc_now()[:10])
    images = [path.read_bytes() for path in (project / "data").rglob("*.png")]
    assert sorted(images) == sorted(png(number) for number in range(20))
    assert not (project / "artifacts/downloads/shards").exists()
    more = tar(tmp_path / "more.tar", {"99.png": png(99), "99.cls": b"a"})
    assert adaptformer("data", "import", str(more)) == 1
    assert "data/ is not empty" in capsys.readouterr().err
    assert adaptformer("data", "import", str(more), "--add") == 0
    assert len(list((project / "data").rglob("*.png"))) == 21
    assert params.read().params.data.name == "photos"  # more of the same
