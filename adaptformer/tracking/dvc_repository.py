"""Everything that flows know about DVC.

DVC is called in this process, not as a command: each question then takes hundredths of a second instead of one, and
its own lock over files can be held while a run goes, so that a `dvc repro` beside it stops before it deletes anything.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from adaptformer import files
from adaptformer.errors import UserError
from adaptformer.tracking.project import ROOT

DATA_FILE = "data.dvc"
LOCK_FILE = "dvc.lock"
Fingerprint = dict[str, Any]
"""What DVC records of a stage's dependencies: hashes of files and folders, values of params sections."""


@contextlib.contextmanager
def _repo() -> Iterator[Any]:
    """Open the checkout's DVC repository; what DVC raises becomes a UserError."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    # What DVC tells besides is no news ("Updating lock file", locks of killed processes). Importing it sets the level.
    logging.getLogger("dvc").setLevel(logging.ERROR)
    try:
        with Repo(str(ROOT)) as repo:
            yield repo
    except DvcException as error:
        raise _explained(error) from error


def _explained(error: Exception) -> UserError:
    from dvc.dependency.base import DependencyDoesNotExistError
    from dvc.lock import LockError
    from dvc.output import OutputDoesNotExistError

    text = " ".join(str(error).split())
    if isinstance(error, LockError):
        blocker = re.search(r"\(PID (\d+)\): (.*?)(?: If there are no processes|$)", text)
        who = f"`{blocker[2].strip()}` (process {blocker[1]})" if blocker else "another DVC process"
        return UserError(f"DVC is busy with {who}", "wait until it ends, or stop it, then run the same command again")
    if isinstance(error, (DependencyDoesNotExistError, OutputDoesNotExistError)):
        return UserError(
            f"{text}: another process, most likely `dvc repro` or `dvc checkout`, removed it while the run was going",
            "run the same command again when that process has ended",
        )
    return UserError(f"DVC: {text}", "`dvc status` and `dvc doctor` say more")


@contextlib.contextmanager
def exclusive() -> Iterator[None]:
    """Keep other DVC commands away from `data/` and from all outputs of the stages, as a running stage does.

    Questions asked within are answered: DVC knows its own process. The lock of a killed process counts for nothing.
    Raises UserError that names the other process where one is at work.
    """
    from dvc.rwlock import rwlock

    with _repo() as repo:
        stages = [stage for stage in repo.index.stages if stage.is_data_source or stage.cmd]
        data = [out.fs_path for stage in stages if stage.is_data_source for out in stage.outs]
        outputs = [out.fs_path for stage in stages if stage.cmd for out in stage.outs]
        hardlink = repo.config["core"].get("hardlink_lock", False)
        held = rwlock(repo.tmp_dir, repo.fs, " ".join(sys.argv), data, outputs, hardlink)
        held.__enter__()
    # DVC's errors are translated above, while the lock is taken; errors of the body are not DVC's.
    try:
        yield
    finally:
        held.__exit__(None, None, None)


def check_data() -> None:
    """Raise UserError unless `data/` is what data.dvc says."""
    if not (ROOT / DATA_FILE).is_file():
        raise UserError(f"there is no {DATA_FILE}", "run `adaptformer data sample` or `adaptformer data import PATH`")
    with _repo() as repo:
        report = repo.status([DATA_FILE]).get(DATA_FILE)
    if not report:
        return
    changes = {change for part in report if isinstance(part, dict) for change in part.get("changed outs", {}).values()}
    if "deleted" in changes:
        raise UserError("data/ is missing", "bring it back with `dvc checkout`, or `dvc pull` where a remote has it")
    raise UserError("data/ has changed since it was recorded", "run `dvc add data`")


def is_current(stage: str) -> bool:
    """Say whether the recorded outputs of `stage` are there and belong to its present inputs.

    True to the facts only when every stage above is current: DVC looks at files, not at what they should become.
    """
    with _repo() as repo:
        return not repo.status([stage])


def is_clean() -> bool:
    """Say whether `dvc status` has nothing to tell: data and all stages are current."""
    with _repo() as repo:
        return not repo.status()


def source_fingerprints(stages: Iterable[str]) -> dict[str, Fingerprint]:
    """Return, by stage, what DVC would record now of data, params and code: what may not change during a whole run."""
    with _repo() as repo:
        made = {out.fs_path for stage in repo.index.stages if stage.cmd for out in stage.outs}
        return {stage: _fingerprint(repo, stage, made) for stage in stages}


@contextlib.contextmanager
def recorded(stage: str, sources: Fingerprint) -> Iterator[None]:
    """Run the body, which makes the outputs of `stage`, and record inputs and outputs with DVC (`dvc commit -f STAGE`).

    Nothing is recorded when the body fails, or when an input is no longer what it was as the body began, or data,
    params or code are no longer `sources`: the record would say that these outputs come from those inputs.
    """
    with _repo() as repo:
        before = _fingerprint(repo, stage)
    yield
    with _repo() as repo:
        after = _fingerprint(repo, stage)
        begun = {**before, **sources}
        changed = sorted(path for path in begun if begun[path] != after.get(path))
        if changed:
            raise UserError(
                f"inputs changed while the run was going: {', '.join(changed)} (stage {stage} is not recorded)",
                "leave data/, params.yaml and the code alone until the run ends, then run the same command again",
            )
        repo.commit(stage, force=True)


def _fingerprint(repo: Any, stage: str, without: Container[str] = ()) -> Fingerprint:
    dependencies = [d for d in repo.stage.load_one(name=stage).deps if d.fs_path not in without]
    for dependency in dependencies:
        dependency.save()
    return {str(dependency): dependency.hash_info.value for dependency in dependencies}


def data_digest(root: Path = ROOT) -> str | None:
    """Return the hash of `data/` that data.dvc names (at most 36 characters), None without a data.dvc."""
    try:
        content = yaml.safe_load((root / DATA_FILE).read_text())
        return str(content["outs"][0]["md5"])[:36]
    except FileNotFoundError:
        return None
    except (yaml.YAMLError, KeyError, IndexError, TypeError) as error:
        raise UserError(f"{DATA_FILE} cannot be read", f"restore it with `git checkout {DATA_FILE}`") from error


@dataclass(frozen=True)
class Experiment:
    """A result of `dvc exp run`: its commit, the commit that it started from, and when (milliseconds since 1970)."""

    name: str
    revision: str
    baseline: str
    when: int
    lock: bytes
    """Its dvc.lock, which names all inputs and outputs: an equal one at hand means the very same results."""


def experiments() -> list[Experiment]:
    """Return all results of `dvc exp run`, of all baselines, the oldest first."""
    with _repo() as repo:
        lock = (ROOT / LOCK_FILE).relative_to(repo.scm.root_dir).as_posix()
        found = [
            Experiment(
                name=name,
                revision=revision,
                baseline=baseline,
                when=int(repo.scm.resolve_commit(revision).commit_time * 1000),
                lock=_content(repo.scm.get_fs(revision), lock) or b"",
            )
            for baseline, named in repo.experiments.ls(all_commits=True).items()
            for name, revision in named
        ]
    return sorted(found, key=lambda experiment: (experiment.when, experiment.name))


def lock_file() -> bytes:
    """Return the present dvc.lock, empty where there is none."""
    path = ROOT / LOCK_FILE
    return path.read_bytes() if path.is_file() else b""


def take_out(revision: str, paths: Iterable[str], into: Path) -> None:
    """Write files as they are at a revision below the folder `into`, as far as git or DVC's cache has them."""
    with _repo() as repo, repo.switch(revision):
        for path in paths:
            content = _content(repo.dvcfs, path)
            if content is not None:
                files.write_bytes(into / path, content)


def _content(filesystem: Any, path: str) -> bytes | None:
    from dvc.exceptions import DvcException

    try:
        return bytes(filesystem.read_bytes(path))
    except (OSError, DvcException):  # never there, or no longer in the cache
        return None
