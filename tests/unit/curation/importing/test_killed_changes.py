"""Commands that change data/, killed before each single thing that they do to the disk: the same command completes it.

The command runs in a forked process which ends, as by SIGKILL, just before a file is opened for writing, renamed,
removed or linked, for such moments from the record of the change on, and for some before it.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import small_project
import yaml
from PIL import Image
from small_project import adaptformer

# All that the commands import is imported here, once, and not in each of their processes.
from adaptformer.cli import completion, exit_code, models, registry, stages, tracking  # noqa: F401
from adaptformer.config import params
from adaptformer.config.run_folder import RunFolder
from adaptformer.curation.checks import findings
from adaptformer.curation.importing import deduplication, growth, importing, relabelling, replacement, settling  # noqa: F401
from adaptformer.data import manifest

WRITING = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "shutil.rmtree", "shutil.copyfile"}
KILLED = 9
STEPS_BEFORE = (1, 7)
"""Of the moments before the record of the change, when the new folder is only being filled."""


def pictures(folder: Path, start: int, per_class: int = 3) -> Path:
    for n, label in enumerate(("blue", "green")):
        for i in range(per_class):
            path = folder / label / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (start + i, 100 * n, start)).save(path)
    return folder


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Params, data/ with a validation split, another source, a list of new labels, and two relabellings done."""
    root = tmp_path_factory.mktemp("checkout")
    small_project.write_params(root)
    (root / ".dvc").mkdir()
    pictures(root / "data/train", 10, 2)
    pictures(root / "data/validation", 60, 1)
    pictures(root / "data/test", 90, 1)
    pictures(root / "more", 150, 3)
    answers = (
        "path,new_label\ntest/blue/0.png,green\ntest/green/0.png,blue\n"  # which change places: twice is not at all
    )
    (root / "answers.csv").write_text(answers)
    (root / "first.csv").write_text("path,new_label\ntrain/blue/0.png,green\n")
    (root / "second.csv").write_text("path,new_label\ntrain/blue/1.png,green\n")
    folder = RunFolder(root / "artifacts")
    manifest.write_manifest(folder.manifest, manifest.scan(root / "data", manifest.ValidationShare(0.2, 0))[0])
    leak = findings.Finding("leaks", "test/blue/0.png", "train/blue/0.png", "")
    findings.write(folder.findings, [leak], params.load(Path(__file__).parents[4] / "params.yaml").checks)
    return root


COMMANDS = {
    "import": ("data", "import", "more", "--model", "pets"),
    "replace": ("data", "import", "more", "--replace", "--model", "pets"),
    "add": ("data", "import", "more", "--add", "--model", "pets"),
    "relabel": ("data", "relabel", "answers.csv"),
    "undo": ("data", "relabel", "--undo"),
    "dedupe": ("data", "dedupe", "--keep-one"),
    "bring back": ("data", "dedupe", "--undo"),
}


def state(root: Path) -> dict[str, bytes]:
    """Everything that lasts: data/, params.yaml, the list of moves, what DVC was told, and what lies beside data/."""
    kept = {path.name for path in root.iterdir()} - {".data.lock", "artifacts"}
    files = [
        path for path in root.rglob("*") if path.is_file() and path.name != ".data.lock" and "cache" not in path.parts
    ]
    return {str(path.relative_to(root)): path.read_bytes() for path in files} | dict.fromkeys(kept, b"")


def ended(root: Path, words: tuple[str, ...], audit: Callable[[str, Any], None] | None) -> int:
    """Return the exit code of a command in a forked process."""
    child = os.fork()
    if not child:
        os.chdir(root)
        sys.stdout = sys.stderr = io.StringIO()
        if audit:
            sys.addaudithook(audit)
        code = 99
        try:
            code = adaptformer(*words)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Moments:
    """An audit hook that ends the process before the moment number `last`, counted from the record of the change on.

    Moments before the record have negative numbers: -1 is the first thing that the command does to the disk.
    """

    def __init__(self, root: Path, last: int | None, report: Path) -> None:
        self.before, self.since, self.last, self.report = 0, 0, last, report
        self.root = str(root)

    def __call__(self, event: str, arguments: Any) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if not (writes or event in WRITING) or str(self.report) in map(str, arguments[:1]):
            return
        if self.since or (writes and ".data.change" in str(arguments[0])):
            self.since += 1
            if self.last == self.since:
                os._exit(KILLED)
        else:
            self.before += 1
            if self.last == -self.before:
                os._exit(KILLED)
        if self.last is None:
            self.report.write_text(str(self.since))


def prepared(checkout: Path, name: str, root: Path) -> Path:
    shutil.copytree(checkout, root)
    if name == "import":
        shutil.rmtree(root / "data")
    if name == "undo":
        for file in ("first.csv", "second.csv"):
            assert ended(root, ("data", "relabel", file), None) == 0
    if name == "bring back":
        assert ended(root, COMMANDS["dedupe"], None) == 0
    return root


@pytest.fixture
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "two renames":
        monkeypatch.setattr(replacement, "exchange", lambda *_: False)
    monkeypatch.setattr(replacement, "dvc_add", told_dvc)
    monkeypatch.setattr(replacement.files, "utc_now", lambda: "2026-11-29T00:00:00Z")
    return str(request.param)


def told_dvc(data: Path) -> bool:
    """In the place of `dvc add`: a file that lists what data/ holds."""
    names = sorted(path.relative_to(data).as_posix() for path in data.rglob("*") if path.is_file())
    Path("data.dvc").write_text("\n".join(names))
    return True


def moments(base: Path, name: str, way: str, tmp_path: Path, stride: int = 1) -> Iterator[int]:
    """Yield the numbers of the moments of a command at which it is killed: with a stride, only some of them.

    With a stride each command has other ones, since all do the same things; with two renames only the first ones count,
    because there this makes a difference.
    """
    counted, report = tmp_path / "counted", tmp_path / "report"
    shutil.copytree(base, counted)
    assert ended(counted, COMMANDS[name], Moments(counted, None, report)) == 0
    yield from (-number for number in STEPS_BEFORE)
    last = int(report.read_text())
    first = 1 + list(COMMANDS).index(name) % stride
    if way == "two renames":
        yield from range(first, 10, stride)
    else:
        yield from range(first, last, stride)
        yield last


@pytest.mark.parametrize(
    ("name", "way", "stride"),
    [
        *((name, "exchange", len(COMMANDS)) for name in COMMANDS),
        ("replace", "two renames", 2),
        ("undo", "two renames", 2),
        *(
            pytest.param(name, way, 1 if name == "replace" else 3, marks=pytest.mark.e2e)
            for name, way in [
                *((name, "exchange") for name in COMMANDS),
                *(("replace", "two renames"), ("undo", "two renames")),
            ]
        ),
    ],
    indirect=["way"],
)
def test_the_same_command_completes_what_was_killed(
    name: str, way: str, stride: int, checkout: Path, tmp_path: Path
) -> None:
    base = prepared(checkout, name, tmp_path / "base")
    old = state(base / "data") if (base / "data").exists() else {}
    undisturbed = tmp_path / "undisturbed"
    shutil.copytree(base, undisturbed)
    assert ended(undisturbed, COMMANDS[name], None) == 0
    wanted, new = state(undisturbed), state(undisturbed / "data")
    for moment in moments(base, name, way, tmp_path, stride):
        root = tmp_path / f"killed{moment}"
        shutil.copytree(base, root)
        code = ended(root, COMMANDS[name], Moments(root, moment, tmp_path / "report"))
        assert code in {0, KILLED}, moment
        if code == 0:  # it does fewer things than this moment's number before the record
            continue
        there = state(root / "data") if (root / "data").exists() else {}
        halfway = way == "two renames" and (root / ".data.old").exists() and not (root / "data").exists()
        assert halfway or there in (old, new), moment
        assert ended(root, COMMANDS[name], None) == 0, moment
        assert state(root) == wanted, moment
        shutil.rmtree(root)


@pytest.mark.parametrize("way", ["exchange"], indirect=True)
@pytest.mark.parametrize("name", ["relabel", "undo", "import"])
def test_a_command_that_only_reads_settles_it_and_the_same_command_is_still_recognised(
    name: str,
    way: str,
    checkout: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base = prepared(checkout, name, tmp_path / "base")
    undisturbed = tmp_path / "undisturbed"
    shutil.copytree(base, undisturbed)
    assert ended(undisturbed, COMMANDS[name], None) == 0
    wanted = state(undisturbed)
    last = max(moments(base, name, way, tmp_path))
    root = tmp_path / "killed"
    shutil.copytree(base, root)
    assert ended(root, COMMANDS[name], Moments(root, last, tmp_path / "report")) == KILLED  # all done but the telling
    monkeypatch.chdir(root)
    settling.settle()
    assert (root / ".data.change.json").exists()
    assert adaptformer(*COMMANDS[name]) == 0
    assert "has done its work already" in capsys.readouterr().out
    assert state(root) == wanted
    assert not (root / ".data.change.json").exists()
    if name == "undo":  # asked for once more, it is a new request
        assert adaptformer(*COMMANDS[name]) == 0
        assert (root / "artifacts/relabelled.csv").read_text() == "number,before,after\n"


@pytest.mark.parametrize("way", ["exchange", "two renames"], indirect=True)
def test_what_is_not_in_place_is_taken_back_by_the_next_command(
    way: str, checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = prepared(checkout, "replace", tmp_path / "base")
    old = state(base / "data")
    for moment in (2, 3, 4, 5):  # around the record and the first rename
        root = tmp_path / str(moment)
        shutil.copytree(base, root)
        assert ended(root, COMMANDS["replace"], Moments(root, moment, tmp_path / "report")) == KILLED
        monkeypatch.chdir(root)
        settling.settle()
        named = yaml.safe_load((root / "params.yaml").read_text())["registry"]["model"]
        assert named == ("squares" if state(root / "data") == old else "pets")
        assert not [path for path in root.glob(".data.*") if path.name != ".data.lock"]
