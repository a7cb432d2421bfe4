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
from picture_fixtures import data_params
from PIL import Image
from small_project import adaptformer

from adaptformer.base import files
from adaptformer.base.errors import UserError
from adaptformer.config import params
from adaptformer.curation.importing import rules, shards, sources
from adaptformer.curation.importing.copying import Manner
from adaptformer.curation.importing.importing import import_folder
from adaptformer.curation.importing.listing import Listing
from adaptformer.data import storage

PARAMS = data_params()


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


def found(source: str | Path, tmp_path: Path, limit: int = 10**6) -> Listing:
    """What a source holds, with the bytes of each image in place of its group."""
    with sources.listing(str(source), tmp_path / "data", tmp_path / "unpacked", limit) as images:
        kept = [image._replace(group="" if image.fault else image.path.read_bytes().hex()) for image in images.images]
    assert not (tmp_path / "unpacked").exists()
    return images._replace(images=kept)


def unpacked(source: str | Path, tmp_path: Path) -> dict[str, bytes]:
    images = found(source, tmp_path).images
    rules.checked(Listing("", images))
    assert not any(image.fault for image in images)
    return {
        "/".join(filter(None, (image.split, image.label, image.name))): bytes.fromhex(image.group) for image in images
    }


def faults(source: str | Path, tmp_path: Path) -> list[str]:
    return [image.fault for image in found(source, tmp_path).images if image.fault]


def test_a_tar_file_has_its_classes_beside_its_images(tmp_path: Path) -> None:
    members = {
        "0001.png": png(1), "0001.cls": b"cat\n", "a/0002.PNG": png(2), "a/0002.json": b'{"label": 7}',
        "a/0002.txt": b"a caption", "._x/0004.png": b"litter",
    }  # fmt: skip
    expected = {"cat/0001.png": png(1), "7/a_0002.png": png(2)}
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
    with pytest.raises(UserError, match=r"the name of .*more-0\.tar contains no split"):
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


def test_folders_are_the_classes_of_an_archive_without_labels(tmp_path: Path) -> None:
    members = {"a/cat/1.png": png(1), "dog/2.png": png(2)}
    expected = {"cat/a_cat_1.png": png(1), "dog/dog_2.png": png(2)}
    assert unpacked(tar(tmp_path / "photos.tar", members), tmp_path) == expected


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        ({"1.png": b"x"}, "no label"),
        ({"1.png": b"x", "1.cls": b" \n"}, "no label"),
        ({"1.png": b"x", "1.jpg": b"y", "1.cls": b"a"}, "2 images of one name: png, jpg"),
        ({"1.cls": b"a"}, "a label without an image"),
        ({"1.png": b"x", "1.cls": b"K\xe4tzchen"}, "its label cannot be read: 'utf-8' codec"),
        ({"1.png": b"x", "1.json": b'{"label": "x"'}, "its label cannot be read: Expecting"),
        ({"1.png": b"x", "1.json": b"[" * 100_000}, "its label cannot be read: maximum recursion"),
        *(
            ({"1.png": b"x", "1.json": b'{"label": ' + label + b"}"}, "is neither a text nor a whole number")
            for label in (b"NaN", b"1.5", b"true", b'{"a": 1}', b"[1]")
        ),
    ],
)
def test_a_sample_without_image_or_class_has_a_fault(members: dict[str, bytes], fault: str, tmp_path: Path) -> None:
    (told,) = faults(tar(tmp_path / "photos.tar", members), tmp_path)
    assert fault in told
    assert "\n" not in told


@pytest.mark.parametrize("label", [b"../up", b"..", b".hidden", b"\x1b[2J"])
def test_a_class_that_no_folder_can_have_is_refused(label: bytes, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the class name .* (begins with a dot|has a slash|cannot be shown)") as caught:
        unpacked(tar(tmp_path / "a.tar", {"1.png": png(1), "1.cls": label}), tmp_path)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_what_is_no_file_of_an_archive_is_named(kind: bytes, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, content in (("a/1.png", png(1)), ("a/2.png", b"")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if not content:
                info.type, info.linkname = kind, "1.png"
            archive.addfile(info, io.BytesIO(content))
    (told,) = faults(tmp_path / "a.tar", tmp_path)
    assert told.startswith("a link to 1.png" if kind in {tarfile.SYMTYPE, tarfile.LNKTYPE} else "no regular")


def test_a_member_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    members = {"a/1.png": png(1), "a/2.png": b"x" * 100_000}
    parquet(tmp_path / "a.parquet", {"image": list(members.values()), "label": ["a", "a"]})
    for path in (tar(tmp_path / "a.tar", members), tmp_path / "a.parquet"):
        first, large = shards.samples(str(path), limit=50_000)
        assert first.content == png(1)
        assert "0.1 MB, more than the limit of 0 MB" in large.fault


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_an_archive_that_was_cut_is_an_error_wherever(mode: str, tmp_path: Path) -> None:
    members = {f"a/{i}.{end}": content for i in range(4) for end, content in (("png", png(i)), ("cls", b"c"))}
    whole = tar(tmp_path / "a.tar", members, mode).read_bytes()
    assert len(unpacked(tmp_path / "a.tar", tmp_path)) == 4
    end = 512 * (len(members) + sum(-(-len(content) // 512) for content in members.values()))
    for place in [*range(512, end + 1, 512), *range(700, end, 1500)] if mode == "w" else range(20, len(whole) - 8, 97):
        (tmp_path / "cut.tar").write_bytes(whole[:place])
        with pytest.raises(UserError, match=r"is truncated|cannot be read|cannot use"):
            unpacked(tmp_path / "cut.tar", tmp_path)


def test_a_sample_without_the_label_that_others_have_is_an_error(tmp_path: Path) -> None:
    labelled = {"a/1.png": png(1), "a/1.cls": b"cat"}
    for members in ({**labelled, "a/2.png": png(2)}, {"a/0.png": png(2), **labelled}):
        with pytest.raises(UserError, match=r"a/[02] in .* has no \.cls or \.json beside it, but others have one"):
            unpacked(tar(tmp_path / "a.tar", members), tmp_path)


def test_images_whose_labels_cannot_be_read_are_told_before_the_number_of_classes(tmp_path: Path) -> None:
    members = {"1.png": png(1), "1.cls": b"dog", "2.png": png(2), "2.cls": b"K\xe4tzchen"}
    with pytest.raises(UserError, match=r"1 of 2 files .*: 2\.png in .*: its label cannot be read"):
        import_folder(tar(tmp_path / "a.tar", members), tmp_path / "data", PARAMS, False, Manner(work=tmp_path / "w"))


def test_archives_that_were_joined_are_an_error(tmp_path: Path) -> None:
    one, two = (tar(tmp_path / f"{n}.tar", {f"a/{n}.png": png(n)}).read_bytes() for n in (1, 2))
    (tmp_path / "both.tar").write_bytes(one + two)
    with pytest.raises(UserError, match="goes on after its end"):
        unpacked(tmp_path / "both.tar", tmp_path)


@pytest.mark.parametrize(
    ("labels", "names", "fault"),
    [
        ([0, -1], ["cat", "dog"], "no label: -1 stands for an image without one"),
        ([0, -1], None, "no label: -1"),
        ([0, 2], ["cat", "dog"], "the label 2 is out of range: there are 2 classes"),
        ([0, None], ["cat", "dog"], "no label"),
        ([0.0, 1.5], ["cat", "dog"], "the label 0.0 is neither a text nor a whole number"),
        ([True, False], ["cat", "dog"], "the label True is neither a text nor a whole number"),
    ],
)
def test_labels_of_parquet_are_checked_before_they_index(
    labels: list[Any], names: list[str] | None, fault: str, tmp_path: Path
) -> None:
    path = parquet(tmp_path / "a.parquet", {"image": [png(1), png(2)], "label": labels}, names)
    assert faults(path, tmp_path)[0].startswith(fault)


def test_unlabelled_rows_are_named_and_left_out_if_wanted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = [png(number) for number in range(32)]
    labels = [number % 2 for number in range(30)] + [-1, -1]
    path = parquet(tmp_path / "pets.parquet", {"image": images, "label": labels}, ["cat", "dog"])
    with pytest.raises(UserError, match=r"2 of 32 files .*: row 30 in .*pets.parquet: no label: -1 .* and 1 more"):
        import_folder(path, tmp_path / "data", PARAMS, False, Manner(work=tmp_path / "work"))
    manner = Manner(skip_bad=True, left_out=tmp_path / "left_out.csv", work=tmp_path / "work")
    assert sum(import_folder(path, tmp_path / "data", PARAMS, False, manner).images.values()) == 30
    assert any(line.startswith("left out 2: no label: -1 stands") for line in caplog.messages)
    assert len((tmp_path / "left_out.csv").read_text().splitlines()) == 3


def test_files_that_are_none_are_two_lines(tmp_path: Path) -> None:
    (tmp_path / "no.tar").write_bytes(b"no archive at all" * 100)
    (tmp_path / "no.parquet").write_bytes(b"PAR1 nope")
    parquet(tmp_path / "other.parquet", {"picture": [b"x"], "label": [1]})
    for name, cause in (
        ("no.tar", r"no\.tar cannot be read"),
        ("no.parquet", r"no\.parquet is not a whole Parquet file"),
        ("gone.tar", "does not exist"),
        ("gone-*.tar", "there is no .*gone-"),
        ("other.parquet", "has no column image, but picture, label"),
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
    assert not (project / "artifacts/downloads/source").exists()
    more = tar(tmp_path / "more.tar", {"99.png": png(99), "99.cls": b"a"})
    assert adaptformer("data", "import", str(more)) == 1
    assert "data/ is not empty" in capsys.readouterr().err
    assert adaptformer("data", "import", str(more), "--add") == 0
    assert len(list((project / "data").rglob("*.png"))) == 21
    assert params.read().params.data.name == "photos"  # more of the same
