"""`adaptformer data sample` and `data import`: what they write, record and print."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mite
import pytest
import small_project
from PIL import Image
from small_project import adaptformer, failure, snapshot

from adaptformer.base import files
from adaptformer.config import params
from adaptformer.data import image_files


def test_data_sample_and_import_record_what_they_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from adaptformer.curation.importing import replacement

    source = small_project.write(tmp_path / "source") / "data"
    project = small_project.write(tmp_path / "project")
    shutil.rmtree(project / "data")
    (project / ".dvc").mkdir()
    monkeypatch.chdir(project)
    recorded: list[Path] = []
    monkeypatch.setattr(replacement, "dvc_add", recorded.append)
    assert adaptformer("data", "sample") == 0
    assert capsys.readouterr().out == "data/ holds the sample's 1,797 digits; recorded in data.dvc\n"
    assert "is not empty" in failure(capsys, "data", "sample")[0]
    for command in (["import", str(source)], ["download", "cifar10"]):
        assert failure(capsys, "data", *command) == (
            "data/ holds the sample's digits",
            f"give --replace, and the images of {command[1]} take their place",
        )
    shutil.rmtree(project / "data")
    assert adaptformer("data", "import", str(source)) == 0
    assert recorded == [Path("data")] * 2
    told = capsys.readouterr().out
    assert re.match(r"data/ holds 30 images of 3 classes .*; recorded in data\.dvc\n", told)
    assert "the model will be registered as squares" in told
    assert sorted(snapshot(project / "data").values()) == sorted(snapshot(source).values())
    assert failure(capsys, "data", "import", str(source)) == (
        "data/ is not empty",
        f"give --add to import the images of {source} beside those that are there",
    )
    assert failure(capsys, "data", "download", "cifar10")[1].startswith("move data/ away")
    assert adaptformer("data", "import", str(source), "--replace") == 0
    (project / ".dvc").rmdir()
    assert adaptformer("data", "import", str(source), "--replace") == 0
    assert capsys.readouterr().out.count("recorded") == 1


def classes_of(folder: Path, side: int) -> Path:
    for number in range(12):
        path = folder / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (side + 10, side), (20 * number, number, 0)).save(path)
    return folder


@pytest.mark.parametrize(("side", "preset"), [(200, True), (33, True), (31, False)])
def test_an_import_says_what_comes_next_for_what_it_found(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], side: int, preset: bool
) -> None:
    small_project.write_params(project, registry__model="digits")
    assert adaptformer("data", "import", str(classes_of(tmp_path / "my pets", side)), "--replace") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == f"half of the images have a shorter side of {side} pixels or more; image.size is {mite.SIDE}"
    assert any("adaptformer params --preset photos" in line for line in lines) == preset
    assert "  make run" in lines
    assert lines[-1] == (
        "the model will be registered as digits, the sample's name: "
        "`adaptformer params registry.model=my-pets --write` gives it its own"
    )


def test_an_import_gives_the_registered_model_its_name(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = str(classes_of(tmp_path / "pets", 30))
    before = snapshot(project)
    assert "registry.model" in failure(capsys, "data", "import", source, "--replace", "--model", "a b")[0]
    assert snapshot(project) == before
    assert adaptformer("data", "import", source, "--replace", "--model", "pets") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "the model will be registered as pets"
    assert params.load().registry.model == "pets"


def test_images_are_added_and_files_that_are_no_images_are_left_out(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = classes_of(tmp_path / "more", 30)
    (more / "a" / "notes.txt").write_text("notes")
    before = snapshot(project / "data")
    assert "1 of 13 files" in failure(capsys, "data", "import", str(more), "--add")[0]
    assert snapshot(project / "data") == before
    assert adaptformer("data", "import", str(more), "--add", "--skip-bad") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("added 12 images")
    assert f"new classes: {', '.join('ab')}: a model trained before does not know them" in lines
    assert "notes.txt" in (project / "artifacts/left_out.csv").read_text()
    assert len(snapshot(project / "data")) == len(before) + 12
    with pytest.raises(SystemExit, match="1"):
        adaptformer("data", "import", str(more), "--add", "--replace")


def test_files_that_an_import_has_read_are_not_read_again(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def noting(reader: Callable[..., Any]) -> Callable[..., Any]:
        def noted(path: Path, *limit: int | None) -> Any:
            if (project / "data") in path.absolute().parents:
                read.append(path)
            return reader(path, *limit)

        return noted

    monkeypatch.setattr(image_files, "read", noting(image_files.read))
    monkeypatch.setattr(files, "sha256_file", noting(files.sha256_file))
    for number, how in enumerate(("--replace", "--add")):
        source = classes_of(tmp_path / how, 30 + number)
        read.clear()
        assert adaptformer("data", "import", str(source), how) == 0
        assert not read
        assert adaptformer("validate") == 0  # its page shows some of the images
        timing = json.loads((project / "artifacts/timing/validate.json").read_text())
        assert timing["known_before"] == timing["images"] == 12 * (number + 1)


def test_the_groups_of_a_list_are_those_of_the_splits(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = classes_of(tmp_path / "images", 30)
    rows = [f"{path.relative_to(images)},{path.parent.name},g{int(path.stem) // 3}" for path in images.rglob("*.png")]
    (images / "list.csv").write_text("path,label,group\n" + "\n".join(rows))
    assert adaptformer("data", "import", str(images / "list.csv"), "--replace") == 0
    assert "data.group_pattern in params.yaml is now /(.+?)__" in capsys.readouterr().out
    assert params.load().data.group_pattern == "/(.+?)__"
    assert adaptformer("fetch") == 0
    assert adaptformer("validate") == 0
