import os
import shutil
import subprocess
import sys
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from picture_fixtures import data_params

from adaptformer.base.errors import UserError
from adaptformer.base.names import unseen
from adaptformer.curation.importing import recording
from adaptformer.curation.importing.copying import Manner
from adaptformer.curation.importing.importing import import_folder
from adaptformer.curation.importing.recording import dvc_add
from adaptformer.data import image_files, layout

Tree = Callable[..., Path]
PARAMS = data_params()


def classes(per_class: int = 10, below: str = "") -> dict[str, bytes | int]:
    start = sum(map(ord, below)) * 1000
    return {f"{below}{c}/{i}.png": start + 100 * n + i for n, c in enumerate(("cat", "dog")) for i in range(per_class)}


def listing(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def test_without_splits_both_are_made_and_written_down(tree: Tree, data: Path) -> None:
    source = tree(classes(), "source")
    summary = import_folder(source, data, PARAMS, replace=False)
    assert summary.images == {"train": 12, "validation": 4, "test": 4}
    assert summary.classes == ("cat", "dog")
    assert summary.made == ("test", "validation")
    for split, each in (("train", 6), ("validation", 2), ("test", 2)):
        assert [len(list((data / split / label).iterdir())) for label in ("cat", "dog")] == [each, each]
    copied = {path.read_bytes() for path in data.rglob("*.png")}
    assert copied == {path.read_bytes() for path in source.rglob("*.png")}


def test_the_same_source_gives_the_same_splits(tree: Tree, data: Path, tmp_path: Path) -> None:
    source = tree(classes(), "source")
    import_folder(source, data, PARAMS, replace=False)
    import_folder(source, tmp_path / "again", PARAMS, replace=False)
    assert listing(data) == listing(tmp_path / "again")
    import_folder(source, tmp_path / "other", PARAMS.model_copy(update={"seed": 1}), replace=False)
    assert listing(data) != listing(tmp_path / "other")


@pytest.mark.parametrize("name", ["val", "valid", "validation", "VAL"])
def test_given_splits_are_kept(tree: Tree, data: Path, name: str) -> None:
    content = {**classes(3, "Train/"), **classes(2, f"{name}/"), **classes(1, "test/")}
    summary = import_folder(tree(content, "source"), data, PARAMS, replace=False)
    assert summary.images == {"train": 6, "validation": 4, "test": 2}
    assert summary.made == ()
    assert listing(data / "test") == ["cat/0.png", "dog/0.png"]


def test_a_missing_validation_is_carved_and_test_left(tree: Tree, data: Path) -> None:
    source = tree({**classes(8, "train/"), **classes(2, "test/")}, "source")
    assert import_folder(source, data, PARAMS, replace=False).images == {"train": 12, "validation": 4, "test": 4}
    assert listing(data / "test") == ["cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png"]


def test_a_missing_test_is_carved_and_validation_left(tree: Tree, data: Path) -> None:
    params = PARAMS.model_copy(update={"test_fraction": 0.4})
    source = tree({**classes(10, "train/"), **classes(2, "val/")}, "source")
    assert import_folder(source, data, params, replace=False).images == {"train": 12, "validation": 4, "test": 8}


def test_duplicates_stay_on_one_side(tree: Tree, data: Path) -> None:
    content = {f"{c}/{i}-{copy}.png": 100 * n + i for n, c in enumerate("ab") for i in range(6) for copy in range(3)}
    import_folder(tree(content, "source"), data, PARAMS, replace=False)
    sides = {}
    for path in data.rglob("*.png"):
        assert sides.setdefault(path.read_bytes(), path.parts[-3]) == path.parts[-3]


def test_classes_may_be_called_like_splits(tree: Tree, data: Path) -> None:
    content = {f"{label}/{i}.png": 10 * n + i for n, label in enumerate(("train", "plane", "test")) for i in range(5)}
    assert import_folder(tree(content, "source"), data, PARAMS, False).classes == ("plane", "test", "train")


def test_loose_files_in_a_split_do_not_make_it_a_class(
    tree: Tree, data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = {**classes(8, "train/"), **classes(2, "test/"), "train/labels.csv": b"x"}
    assert import_folder(tree(content, "source"), data, PARAMS, replace=False).classes == ("cat", "dog")
    assert "labels.csv" in caplog.text


def test_litter_and_loose_files_stay_behind(tree: Tree, data: Path, caplog: pytest.LogCaptureFixture) -> None:
    litter = {
        ".DS_Store": b"x", "cat/.DS_Store": b"x", "cat/Thumbs.db": b"x", "__MACOSX/cat/._1.png": b"x",
        "cat/.cache/x.png": b"x", "README.md": b"x",
    }  # fmt: skip
    summary = import_folder(tree({**classes(), **litter}, "source"), data, PARAMS, replace=False)
    assert sum(summary.images.values()) == 20
    assert "README.md" in caplog.text


def test_nested_files_are_flattened_without_collisions(tree: Tree, data: Path) -> None:
    nested: dict[str, bytes | int] = {
        "train/a/x/1.png": 1, "train/a/y/1.png": 2, "train/a/1.PNG": 3, "train/a/1-2.png": 4,
        "train/a/z/1.PNG": 7, "train/b/1.png": 8, "train/b/2.png": 9,
    }  # fmt: skip
    source = tree({**nested, "val/a/1.png": 5, "test/a/1.png": 6}, "source")
    import_folder(source, data, PARAMS, replace=False)
    names = [path.name.casefold() for path in (data / "train/a").iterdir()]
    assert len(set(names)) == len(names) == 5
    assert {path.read_bytes() for path in data.rglob("*") if path.is_file()} == {
        path.read_bytes() for path in source.rglob("*") if path.is_file()
    }


def test_val_and_valid_meet_without_collisions(tree: Tree, data: Path) -> None:
    content = {**classes(3, "train/"), **classes(2, "val/"), **classes(2, "valid/"), **classes(1, "test/")}
    assert import_folder(tree(content, "source"), data, PARAMS, replace=False).images["validation"] == 8
    assert listing(data / "validation/cat") == ["0-2.png", "0.png", "1-2.png", "1.png"]


def test_links_are_copied(tree: Tree, data: Path) -> None:
    source = tree(classes(), "source")
    elsewhere = tree({"bird/1.png": 800, "bird/2.png": 801, "bird/3.png": 802}, "elsewhere")
    (source / "bird").symlink_to(elsewhere / "bird")
    (source / "bird" / "link.png").symlink_to(source / "bird" / "1.png")
    import_folder(source, data, PARAMS, replace=False)
    shutil.rmtree(elsewhere)
    assert not [path for path in data.rglob("*") if path.is_symlink()]
    assert len(listing(data)) == 24


def test_all_bad_files_are_reported_before_anything_is_written(tree: Tree, data: Path) -> None:
    bad = {"cat/empty.png": b"", "dog/notes.txt": b"notes"}
    source = tree({**classes(), **bad}, "source")
    (source / "dog" / "gone.png").symlink_to("nowhere")
    with pytest.raises(UserError, match=r"3 of 23 files .* cat/empty.png: empty file and 2 more") as caught:
        import_folder(source, data, PARAMS, replace=False)
    assert [note.partition(":")[0] for note in caught.value.__notes__] == [
        "cat/empty.png", "dog/gone.png", "dog/notes.txt",
    ]  # fmt: skip
    assert [path.name for path in data.parent.iterdir() if path.name != ".data.lock"] == ["source"]


def test_each_file_is_read_once_and_comes_under_its_own_name(
    tree: Tree, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tree(classes(), "source")
    expected = {path.relative_to(source).as_posix(): path.read_bytes() for path in source.rglob("*.png")}
    read: list[Path] = []
    read_file = image_files.read
    monkeypatch.setattr(image_files, "read", lambda path, limit: (read.append(path), read_file(path, limit))[1])
    monkeypatch.setattr(shutil, "copyfile", lambda *_: pytest.fail("read again"))
    import_folder(source, data, PARAMS, replace=False)
    monkeypatch.undo()
    assert sorted(read) == sorted(source.rglob("*.png"))
    found = {path.relative_to(data).as_posix().partition("/")[2]: path.read_bytes() for path in data.rglob("*.png")}
    assert found == expected


def test_present_data_is_refused_unless_replaced(tree: Tree, data: Path) -> None:
    tree({"train/old/1.png": 1}, "data")
    source = tree(classes(), "source")
    with pytest.raises(UserError, match="not empty") as caught:
        import_folder(source, data, PARAMS, replace=False)
    assert "--add" in caught.value.remedy
    assert "--replace" not in caught.value.remedy, "the images that are there would be lost"
    assert listing(data) == ["train/old/1.png"]
    import_folder(source, data, PARAMS, replace=True)
    assert len(listing(data)) == 20
    assert "train/old/1.png" not in listing(data)


def test_a_failing_replacement_keeps_the_old_data(tree: Tree, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree({"train/old/1.png": 1}, "data")
    source = tree(classes(), "source")
    calls = []

    def full(path: Path, content: bytes) -> int:
        calls.append(path)
        if len(calls) == 5:
            raise OSError(28, "No space left on device")
        return len(content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="No space left"):
        import_folder(source, data, PARAMS, replace=True)
    assert listing(data) == ["train/old/1.png"]
    assert sorted(path.name for path in data.parent.iterdir() if path.name != ".data.lock") == ["data", "source"]


def test_source_and_data_must_lie_apart(tree: Tree, data: Path) -> None:
    tree(classes(3, "train/"), "data")
    for source in (data / "train", data, data.parent):
        with pytest.raises(UserError, match="contains the other"):
            import_folder(source, data, PARAMS, replace=True)
    assert len(listing(data)) == 6


def test_sources_that_are_no_folder_and_no_csv_file_are_refused(tree: Tree, data: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("cat/1.png", b"x")
    (tmp_path / "one.png").write_bytes(b"x")
    for name, cause in (
        ("images.zip", "is an archive"),
        ("one.png", "is neither a folder nor a CSV file"),
        ("nowhere", "there is no"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=cause):
            import_folder(tmp_path / name, data, PARAMS, replace=False)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ({}, "no images in class folders"),
        ({"1.png": 1}, "no images in class folders"),
        ({"train/cat/1.png": 1, "extra/1.png": 2}, "beside them, 'extra'"),
        ({"test/cat/1.png": 1}, "the split test but no train"),
        ({"cat/1.png": 1, "cat/2.png": 2}, "holds one class, 'cat'"),
        ({"photos/cat/1.png": 1, "photos/dog/2.png": 2}, "'photos', which holds only the folders cat, dog"),
        ({"train/all/cat/1.png": 1, "test/all/cat/1.png": 2}, "'all', which holds only the folders cat"),
        ({"Cat/1.png": 1, "cat/1.png": 2}, "'Cat' and 'cat' differ only in case"),
        ({"train/Cat/1.png": 1, "test/cat/1.png": 2}, "'Cat' and 'cat' differ only in case"),
        ({"cat /1.png": 1}, "begins or ends with a space"),
        ({"cat\n/1.png": 1}, "begins or ends with a space"),
        ({"c\nat/1.png": 1}, r"'c\\nat' has characters that cannot be shown"),
    ],
)
def test_layouts_that_cannot_be_meant(tree: Tree, data: Path, content: dict[str, bytes | int], cause: str) -> None:
    with pytest.raises(UserError, match=cause) as caught:
        import_folder(tree(content, "source"), data, PARAMS, replace=False)
    assert "\n" not in caught.value.cause + caught.value.remedy
    assert not data.exists()


def test_all_bad_names_are_reported_at_once(tree: Tree, data: Path) -> None:
    source = tree({"cat /1.png": 1, "Dog/1.png": 2, "dog/1.png": 3, "bi\trd/1.png": 4}, "source")
    with pytest.raises(UserError, match="and 2 more") as caught:
        import_folder(source, data, PARAMS, replace=False)
    said = " ".join([caught.value.cause, *caught.value.__notes__])
    assert all(
        fault in said for fault in ("'cat ' begins or ends", "'Dog' and 'dog' differ", "'bi\\trd' has characters")
    )


def test_names_have_one_form_whichever_the_file_system_has(tree: Tree, data: Path) -> None:
    apart, whole = unicodedata.normalize("NFD", "café"), unicodedata.normalize("NFC", "café")
    source = tree({f"train/{apart}/{apart}.png": 1, f"train/{whole}/1.png": 2, "train/b/1.png": 3, "test/b/2.png": 4,
                   "val/b/3.png": 5}, "source")  # fmt: skip
    assert import_folder(source, data, PARAMS, replace=False).classes == ("b", whole)
    assert listing(data / "train" / whole) == ["1.png", f"{whole}.png"]


@pytest.mark.parametrize("name", ["\x1b]0;owned\x07.png", "a\nb.png", os.fsdecode(b"\xff.png"), "a\u202eb.png"])
def test_file_names_that_cannot_be_shown_are_stored_without(tree: Tree, data: Path, name: str) -> None:
    import_folder(tree({**classes(), f"cat/{name}": 900}, "source"), data, PARAMS, replace=False)
    assert len(listing(data)) == 21
    assert not any(unseen(path) for path in listing(data))
    assert not layout.entries(data)[1]


def test_what_cannot_be_shown_is_escaped_in_errors(tree: Tree, data: Path) -> None:
    with pytest.raises(UserError, match=r"cat/\\x1b\[2J\\n\.png: empty file") as caught:
        import_folder(tree({**classes(), "cat/\x1b[2J\n.png": b""}, "source"), data, PARAMS, replace=False)
    assert "\x1b" not in str(caught.value)


def test_a_pipe_among_images_is_told_and_not_waited_for(tree: Tree, data: Path, tmp_path: Path) -> None:
    source = tree(classes(), "source")
    os.mkfifo(source / "cat" / "pipe.png")
    os.mkfifo(tmp_path / "list.csv")
    with pytest.raises(UserError, match=r"cat/pipe\.png: no regular file but a named pipe"):
        import_folder(source, data, PARAMS, replace=False)
    with pytest.raises(UserError, match="neither a folder nor a CSV file"):
        import_folder(tmp_path / "list.csv", data, PARAMS, replace=False)


def test_files_and_images_beyond_the_limits_of_params_are_told(tree: Tree, data: Path, picture: Tree) -> None:
    large = {"cat/a.png": picture(width=1100, height=1000, format="BMP"), "cat/b.bmp": b"x" * 1_000_001}
    source = tree({**classes(), **large}, "source")  # type: ignore[dict-item]
    params = PARAMS.model_copy(update={"max_megapixels": 1, "max_file_mb": 4})
    with pytest.raises(UserError, match=r"2 of 22 files .* 1,100 x 1,000 pixels, 1 million, more than"):
        import_folder(source, data, params, replace=False)
    with pytest.raises(UserError, match=r"3\.3 MB, more than the limit of 1 MB \(data\.max_file_mb\)"):
        import_folder(source, data, params.model_copy(update={"max_file_mb": 1}), replace=False)


def test_hidden_folders_are_named(tree: Tree, data: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = tree({**classes(), ".owl/1.png": 900, "cat/.old/1.png": 901}, "source")
    assert import_folder(source, data, PARAMS, replace=False).classes == ("cat", "dog")
    assert "left out 2: hidden (.owl and others)" in caplog.messages


def test_what_is_no_image_is_left_out_and_listed_if_wanted(
    tree: Tree, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, listed = tree({**classes(), "cat/notes.txt": b"notes", "dog/empty.png": b""}, "source"), tmp_path / "l.csv"
    summary = import_folder(source, data, PARAMS, False, Manner(skip_bad=True, left_out=listed))
    assert sum(summary.images.values()) == len(listing(data)) == 20
    lines = listed.read_text().splitlines()
    assert [line.partition(",")[0] for line in lines] == ["path", "cat/notes.txt", "dog/empty.png"]
    assert "left out 1: empty file (dog/empty.png)" in caplog.messages
    assert f"all of that is listed in {listed}" in caplog.messages
    (source / "cat/notes.txt").unlink()
    (source / "dog/empty.png").unlink()
    import_folder(source, data, PARAMS, True, Manner(skip_bad=True, left_out=listed))
    assert not listed.exists(), "it would tell of files that were not left out this time"


def test_where_nothing_is_an_image_there_is_nothing_to_leave_out(tree: Tree, data: Path, tmp_path: Path) -> None:
    source = tree({"cat/1.txt": b"x", "dog/1.txt": b"x"}, "source")
    with pytest.raises(UserError, match="2 of 2 files"):
        import_folder(source, data, PARAMS, False, Manner(True, tmp_path / "l.csv"))
    assert not data.exists()


def test_groups_stay_in_one_split(tree: Tree, data: Path) -> None:
    content = {f"{label}/p{i % 7}_{i}.png": 1000 * n + i for n, label in enumerate(("cat", "dog")) for i in range(35)}
    params = PARAMS.model_copy(update={"group_pattern": r"/(p\d)_"})
    summary = import_folder(tree(content, "source"), data, params, replace=False)
    splits: dict[str, set[str]] = {}
    for path in listing(data):
        split, _, name = path.split("/")
        splits.setdefault(name.partition("_")[0], set()).add(split)
    assert {len(found) for found in splits.values()} == {1}
    assert set.union(*splits.values()) == {"train", "validation", "test"}
    assert summary.images == {"train": 50, "validation": 10, "test": 10}


def test_dvc_add_is_skipped_outside_a_repository(tree: Tree, data: Path) -> None:
    tree({"train/cat/1.png": 1})
    assert dvc_add(data) is False


def test_dvc_add_failure_is_one_line(tree: Tree, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree({"train/cat/1.png": 1, "../.dvc/config": b"[core]\n    no_scm = true\n"})
    seen = {}

    def failing(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        seen.update(options, command=command)
        return subprocess.CompletedProcess(command, 255, "", "ERROR: is\nbroken\n")

    monkeypatch.setattr(recording.subprocess, "run", failing)
    with pytest.raises(UserError, match="ERROR: is broken") as caught:
        dvc_add(data)
    assert "\n" not in caught.value.cause
    assert seen["command"][:4] == [sys.executable, "-m", "dvc", "add"]
    assert seen["cwd"] == data.parent


@pytest.mark.slow
def test_dvc_add_records_the_data(tree: Tree, data: Path) -> None:
    tree({"train/cat/1.png": 1})
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, cwd=data.parent, check=True)
    assert dvc_add(data) is True
    assert "nfiles: 1" in (data.parent / "data.dvc").read_text()
