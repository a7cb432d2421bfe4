"""A checkout in miniature at every point of its life, each made once, and the commands that go on from there."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from adaptformer.__main__ import main
from adaptformer.base import files
from tests.faults import processes

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/unit"), str(ROOT / "tests/pipeline")]
WHO = ("--who", "Ada", "--why", "asked by a fault")
UNSTABLE = {
    ".lock",
    ".data.lock",
    ".checkout.json",
    "facts.npz",
    "timing.json",
    "tracking.json",
    "registration.json",
    "study.db",
}
"""Files whose bytes say nothing: locks, times, ids of runs, and what is known of files by their inode."""
ELSEWHERE = {"timing", "registry", "decisions", "mlartifacts", ".prefect", ".git", ".dvc", "__pycache__"}
"""Folders with times, or of other programs."""


@dataclass(frozen=True)
class Case:
    """A command, and the state of the checkout that it starts from.

    `last_words` are compared too where a command's answer is what it prints. `weight` says how often it is tried;
    `registry` names a registered model that it moves.
    """

    name: str
    words: tuple[str, ...]
    state: str
    last_words: bool = False
    weight: int = 4
    registry: str = ""
    own_process: bool = False

    def call(self) -> int:
        """Run the command in this process, or let this process become it."""
        if self.own_process:
            os.environ.update(PREFECT_HOME=str(Path.cwd() / ".prefect"), PYTHONPATH=str(Path.cwd()))
            os.execv(sys.executable, [sys.executable, "-m", *self.words])  # noqa: S606
        return main(list(self.words))

    def lasting(self, root: Path) -> object:
        """Return what is in use of a registered model, and the files of the checkout, whichever the command makes."""
        printed = processes.run(lambda: registry_state(self.registry), root).printed if self.registry else ""
        return {} if printed and not self.own_process else content(root), printed


CASES = (
    Case("data sample", ("data", "sample"), "empty", weight=1),
    Case("data import", ("data", "import", "more", "--model", "pets"), "empty"),
    Case("data import --replace", ("data", "import", "more", "--replace", "--model", "pets"), "data"),
    Case("data import --add", ("data", "import", "more", "--add"), "data"),
    Case("data relabel", ("data", "relabel", "answers.csv"), "data"),
    Case("data relabel --undo", ("data", "relabel", "--undo"), "relabelled"),
    Case("data check", ("data", "check", "data", "--output", "checked", "--workers", "1"), "data", weight=1),
    Case("data label-errors", ("data", "label-errors"), "fetched", weight=2),
    Case("validate", ("validate",), "data"),
    Case("fetch", ("fetch",), "validated"),
    Case("train", ("train",), "fetched", weight=8),
    Case("train training.epochs=3", ("train", "training.epochs=3"), "three", weight=2),
    Case("evaluate", ("evaluate",), "trained"),
    Case("export", ("export",), "evaluated"),
    Case("run", ("run", "--stages-only"), "data", weight=6),
    Case("predict", ("predict", "more", "--csv"), "exported", last_words=True, weight=2),
    Case("predict --output", ("predict", "more", "--output", "answers", "--workers", "1"), "exported", weight=1),
    Case("promote", ("promote", "--model", "colours", *WHO), "registered", registry="colours", weight=2),
    Case("rollback", ("rollback", "--model", "colours", *WHO), "promoted", registry="colours", weight=2),
)
SLOW = (
    Case("compare", ("adaptformer", "compare", "--method", "linear", "--seed", "0"), "clone", own_process=True),
    Case(
        "sweep", ("adaptformer", "sweep", "--search", "training.epochs=1,2", "--trials", "2"), "clone", own_process=True
    ),
    Case("flows run", ("flows", "run"), "clone", own_process=True, registry="digits"),
)
"""Cases that start processes of their own, each of which imports everything: for runs of half an hour or more."""


def commands(*every: tuple[str, ...]) -> Callable[[], int]:
    """Return what runs one command after the other."""
    return lambda: max(main(list(words)) for words in every)


def _stopped_training() -> int:
    """Train for one epoch of two."""
    from adaptformer.config import params
    from adaptformer.config.run_folder import RunFolder
    from adaptformer.pipeline import stage_runner

    def stop(_row: object) -> None:
        raise InterruptedError

    with contextlib.suppress(InterruptedError):
        stage_runner.run("train", params.load(), RunFolder(), stop)
    return 0


THREE = "training.epochs=3"
STEPS: dict[str, tuple[str, Callable[[], int]]] = {
    "relabelled": ("data", commands(("data", "relabel", "first.csv"), ("data", "relabel", "answers.csv"))),
    "validated": ("data", commands(("validate",))),
    "fetched": ("validated", commands(("fetch",))),
    "three": ("data", commands(("validate", THREE), ("fetch", THREE))),
    "stopped": ("fetched", _stopped_training),
    "trained": ("fetched", commands(("train",))),
    "evaluated": ("trained", commands(("evaluate",))),
    "exported": ("evaluated", commands(("export",))),
    "own": ("data", commands(("run", "--stages-only", "--own-folder"))),
    "answered": ("exported", commands(("predict", "more", "--output", "answers", "--workers", "1"))),
    "promoted": ("registered", commands(("promote", "--model", "colours", *WHO))),
}
"""Each state: the one before it, and what leads from there."""


class Projects:
    """The states of the checkout, made when they are first needed; `fresh` is a copy to be broken, one at a time.

    `cases` are the commands to kill.
    """

    def __init__(self, folder: Path, cases: Sequence[Case]) -> None:
        self.folder, self.cases = folder, cases

    def state(self, name: str) -> Path:
        """Return the folder of a state, which nobody changes."""
        root = self.folder / f"state-{name}"
        if root.exists():
            return root
        if name in STEPS:
            before, lead = STEPS[name]
            made = self.fresh(before)
            self.must(lead, made)
        else:
            made = self._empty_copy()
            self.must({"data": _data, "empty": _empty, "registered": _registered, "clone": _clone}[name], made)
        made.rename(root)
        return root

    def fresh(self, name: str) -> Path:
        """Return a copy of a state, with the times of its files, which some records go by."""
        source, root = self.state(name), self._empty_copy()
        shutil.copytree(source, root, symlinks=True, dirs_exist_ok=True)
        return root

    def done_with(self, root: Path) -> None:
        """Remove a copy."""
        shutil.rmtree(root, ignore_errors=True)
        root.with_name(f"{root.name}.output").unlink(missing_ok=True)

    @staticmethod
    def must(call: Callable[[], int], root: Path) -> processes.Ended:
        """Run something that must succeed."""
        ended = processes.run(call, root)
        if ended.code:
            raise RuntimeError(f"preparing {root} ended with {ended.code}:\n{ended.printed}")
        return ended

    def _empty_copy(self) -> Path:
        """Return an empty folder, always the same one: MLflow's database and lists of images have absolute paths."""
        root = self.folder / "checkout"
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        return root


def _empty() -> int:
    import small_project

    small_project.write(Path.cwd())
    shutil.move("data", "more")  # as a source: it has train and test
    return 0


def _data() -> int:
    import small_project
    from PIL import Image

    small_project.write(Path.cwd())
    for n, label in enumerate(sorted(path.name for path in Path("data/train").iterdir())):
        for i in range(4):
            path = Path("more") / label / f"new{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (10, 10), (40 * n + i, 200 - 50 * n, 9 * i)).save(path)
    names = sorted(path.relative_to("data").as_posix() for path in Path("data").rglob("*.png"))
    labels = sorted({name.split("/")[1] for name in names})
    for file, name in (("answers.csv", names[0]), ("first.csv", names[-1])):
        other = next(label for label in labels if label != name.split("/")[1])
        Path(file).write_text(f"path,new_label\n{name},{other}\n")
    return 0


def _clone() -> int:
    """A clone of this working tree with few images and epochs (tests/pipeline/clones.py)."""
    import clones

    clones.make(Path.cwd())
    return 0


def _registered() -> int:
    """A registry with a champion and a challenger, without any training (tests/pipeline/registered.py)."""
    import registered
    import small_project

    small_project.write_params(Path.cwd(), gate__max_latency_ratio=1000.0)
    registered.register(Path.cwd(), "colours", registered.wrong(60))
    registered.ask("colours")
    registered.challenge(Path.cwd(), "colours", registered.wrong(20))
    return 0


def registry_state(name: str) -> int:
    """Print what is in use and every valid move of it, as a command does for a person."""
    from adaptformer.registry import alias_journal, promotion
    from adaptformer.tracking import mlflow_store

    every = [(move.kind, move.before.champion, move.after.champion) for move, valid in promotion.history(name) if valid]
    there = alias_journal.aliases(mlflow_store.connect(), name)
    print(json.dumps([every, there.champion, there.previous]))
    return 0


def content(root: Path, cache: bool = False) -> dict[str, str]:
    """Return what lasts of a checkout: every file by the hash of its bytes; times, locks and caches left out."""
    found = {}
    for place, names, inside in os.walk(root):
        if not cache and Path(place).name == "artifacts":
            names[:] = [name for name in names if name != "cache"]
        names[:] = [name for name in names if name not in ELSEWHERE]
        for name in inside:
            path = Path(place) / name
            if name not in UNSTABLE and not name.startswith("mlflow.db") and path.is_file():
                found[path.relative_to(root).as_posix()] = files.sha256_file(path)
    return found
