"""`adaptformer init DIR`: its folder, what it refuses, and git."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import pytest
from small_project import adaptformer, failure

from adaptformer.base import dvc_without_git
from adaptformer.pipeline import library_version
from adaptformer.project import sources

WRITTEN = sources.texts().keys() | {"library.yaml"}


@pytest.fixture(autouse=True)
def no_dvc_command(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Folders in which DVC was set to work without git; its command takes seconds."""
    settled: list[Path] = []
    monkeypatch.setattr(dvc_without_git, "settle", settled.append)
    return settled


def files_in(folder: Path) -> set[str]:
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return {name for name in names if not name.startswith(".git/")}


def test_a_new_folder_becomes_a_project_and_a_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert adaptformer("init", "own/pets") == 0
    printed = capsys.readouterr().out
    version = re.escape(metadata.version("adaptformer"))
    assert re.match(
        rf"own/pets/ is a project of adaptformer {version}, in a new git repository\nnext:\n  cd own/pets\n", printed
    )
    assert files_in(tmp_path / "own/pets") == WRITTEN
    root = subprocess.run(
        ["git", "rev-parse", "--show-toplevel"], cwd=tmp_path / "own/pets", capture_output=True, text=True, check=True
    )
    assert Path(root.stdout.strip()) == tmp_path / "own/pets"


@pytest.mark.parametrize(
    ("arguments", "git", "within", "told"),
    [
        (["--no-git"], True, False, "without git"),
        ([], False, False, "without git, which is not installed"),
        ([], True, True, "in that of "),
    ],
)
def test_a_project_without_a_repository_of_its_own(
    arguments: list[str], git: bool, within: bool, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], no_dvc_command: list[Path],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    if within:
        (tmp_path / ".git").mkdir()
    found = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: found(name) if git or name != "git" else None)
    assert adaptformer("init", "pets", *arguments) == 0
    assert f", {told}" in capsys.readouterr().out
    assert not (tmp_path / "pets/.git").exists()
    assert no_dvc_command == ([] if within else [Path("pets")])


@pytest.mark.parametrize("content", ["params.yaml", "photos/1.jpg", ".hidden"])
def test_a_folder_with_anything_in_it_is_refused_and_left_as_it_is(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / content).parent.mkdir(exist_ok=True)
    (tmp_path / content).write_text("mine")
    assert failure(capsys, "init", str(tmp_path)) == (
        f"{tmp_path}/ is not empty: it holds {content}",
        "name a new folder",
    )
    assert files_in(tmp_path) == {content}
    assert (tmp_path / content).read_text() == "mine"


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pets").touch()
    assert failure(capsys, "init", str(tmp_path / "pets")) == (f"{tmp_path}/pets is a file", "name a new folder")


def test_what_a_killed_init_left_is_completed_and_an_empty_repository_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows/train.py").write_text(sources.texts()["flows/train.py"])
    (tmp_path / ".params.there-1.partial.yaml").touch()
    assert adaptformer("init", str(tmp_path)) == 0
    assert ", in the git repository that was there\n" in capsys.readouterr().out
    assert files_in(tmp_path) >= WRITTEN


def test_a_project_that_was_used_is_pointed_to_its_update(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert adaptformer("init", str(tmp_path), "--no-git") == 0
    (tmp_path / "params.yaml").write_text("changed")
    assert "`adaptformer init --update`" in failure(capsys, "init", str(tmp_path), "--no-git")[1]


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (["init"], "the project needs a folder"),
        (["init", "pets", "--accept", "params.yaml"], "--accept and --keep are about files of an update"),
        (["init", "--update"], ". is no project of `adaptformer init`: it has no library.yaml"),
    ],
)
def test_a_wrong_call_is_two_lines(
    arguments: list[str],
    cause: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert failure(capsys, *arguments)[0] == cause
    assert files_in(tmp_path) == set()


def test_library_yaml_holds_the_version_and_each_stage(tmp_path: Path) -> None:
    assert adaptformer("init", str(tmp_path / "pets"), "--no-git") == 0
    recorded = library_version.read(tmp_path / "pets")
    assert recorded is not None
    assert (recorded.version, recorded.stages) == (
        library_version.installed().version, library_version.installed().stages
    )  # fmt: skip
    assert recorded.files.keys() == WRITTEN - {"library.yaml"}
