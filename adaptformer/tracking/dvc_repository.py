"""DVC's records of data, stages and experiments.

DVC is called in this process, not as a command: a call takes hundredths of a second instead of a whole second, and a
run can hold DVC's own lock on files, so that a concurrent `dvc repro` stops before it deletes anything.
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

from adaptformer.base import dvc_without_git, files, yaml_text
from adaptformer.base.errors import UserError
from adaptformer.tracking import git
from adaptformer.tracking.locations import root

DATA_FILE = "data.dvc"
LOCK_FILE = "dvc.lock"
Fingerprint = dict[str, Any]
"""DVC's record of a stage's dependencies: hashes of files and folders, values of params sections."""


@contextlib.contextmanager
def _repo() -> Iterator[Any]:
    """Open the checkout's DVC repository; DVC's exceptions and refusals of the disk become UserErrors."""
    from dvc.repo import Repo

    # DVC's log lines ("Updating lock file", locks of killed processes) are noise here. Importing DVC sets the level.
    logging.getLogger("dvc").setLevel(logging.ERROR)
    dvc_without_git.settle(root())
    with user_errors(), Repo(str(root())) as repo:
        yield repo


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Run the body; what DVC refuses in it is raised as UserError with a remedy."""
    from dvc.exceptions import DvcException

    try:
        yield
    except UserError:
        raise
    except Exception as error:  # DVC's own databases and locks also raise errors of SQLite and the system
        if refused := _refused_by_git(error) or files.refusal(error, root() / ".dvc"):
            raise refused from error
        if not isinstance(error, DvcException):
            raise
        raise _explained(error) from error


def _refused_by_git(error: BaseException) -> UserError | None:
    """Return the error for a repository of another user, None for other failures; DVC wraps git's own error."""
    for cause in files.chain(error):
        if match := re.search(r"repository path '(.*)' is not owned by|dubious ownership", str(cause)):
            return UserError(f"{git.NOT_OURS}: {match[1] or root()}", git.trusting(match[1] or str(root())))
    return None


def _explained(error: Exception) -> UserError:
    from dvc.dependency.base import DependencyDoesNotExistError
    from dvc.lock import LockError
    from dvc.output import OutputDoesNotExistError
    from dvc.rwlock import RWLockFileCorruptedError

    text = " ".join(str(error).split())
    if isinstance(error, LockError):
        blocker = re.search(r"\(PID (\d+)\): (.*?)(?: If there are no processes|$)", text)
        who = f"`{blocker[2].strip()}` (process {blocker[1]})" if blocker else "another DVC process"
        return UserError(f"DVC is busy with {who}", "wait until it ends, or stop it, then run the same command again")
    if isinstance(error, RWLockFileCorruptedError):
        return UserError(
            f"{text}: a disk that was full left half of it",
            "when no DVC command runs, move .dvc/tmp/rwlock away, then run the same command again",
        )
    if isinstance(error, (DependencyDoesNotExistError, OutputDoesNotExistError)):
        return UserError(
            f"{text}: another process, most likely `dvc repro` or `dvc checkout`, removed it during the run",
            "run the same command again when that process has ended",
        )
    return UserError(f"DVC: {text}", "`dvc status` and `dvc doctor` say more")


@contextlib.contextmanager
def exclusive() -> Iterator[None]:
    """Keep other DVC commands from changing `data/` and all outputs of the stages, as a running stage does.

    The functions of this module still work within the body. The lock of a killed process has no effect. Raises
    UserError, which names the other process, if one holds the lock.
    """
    from dvc.rwlock import rwlock

    with contextlib.ExitStack() as held:
        with _repo() as repo:
            stages = repo.index.stages
            data = [out.fs_path for stage in stages if stage.is_data_source for out in stage.outs]
            outputs = [out.fs_path for stage in stages if stage.cmd for out in stage.outs]
            hardlink = repo.config["core"].get("hardlink_lock", False)
            lock = rwlock(repo.tmp_dir, repo.fs, " ".join(sys.argv), data, outputs, hardlink)
            held.enter_context(_held(lock))
        yield  # outside of `_repo`, since the body's errors are not DVC's


@contextlib.contextmanager
def _held(lock: contextlib.AbstractContextManager[object]) -> Iterator[None]:
    """Hold a lock of DVC; if the body fails, a failure to release the lock is ignored, as a consequence of that."""
    lock.__enter__()
    try:
        yield
    except BaseException:
        with contextlib.suppress(Exception):
            lock.__exit__(None, None, None)
        raise
    with user_errors():
        lock.__exit__(None, None, None)


def is_used() -> bool:
    """Return whether the current folder is a checkout with DVC."""
    return Path(".dvc").is_dir()


def check_data() -> None:
    """Raise UserError unless `data/` is as data.dvc records it; without DVC there is no record to compare with."""
    if not is_used():
        return
    if not Path(DATA_FILE).is_file():
        raise UserError(f"there is no {DATA_FILE}", "run `adaptformer data sample` or `adaptformer data import PATH`")
    with _repo() as repo:
        if not repo.status([DATA_FILE]):
            return
        data = repo.stage.load_one(DATA_FILE).outs[0]
        there, cached = data.exists, not data.changed_cache()
        same = there and not data.changed_checksum()
        remotes = bool(repo.config["remote"])
    if same:
        raise UserError("DVC's cache lacks data/, which is as it was recorded", "run `dvc add data`")
    if there:
        raise UserError("data/ has changed since it was recorded", "run `dvc add data`")
    if cached:
        raise UserError("data/ is missing", "bring it back with `dvc checkout`")
    if remotes:
        raise UserError("data/ is missing, and DVC's cache lacks it", "bring it here with `dvc pull`")
    raise UserError(
        f"data/ is missing, and neither DVC's cache nor a remote has what {DATA_FILE} names",
        "name the remote that has it (`dvc remote add --default NAME URL`) and run `dvc pull`; or begin with data of "
        "your own, `adaptformer data import PATH`, or with the sample, `adaptformer data sample`",
    )


def is_current(stage: str) -> bool:
    """Return whether the recorded outputs of `stage` are there and were made from its present inputs.

    The answer holds only if every stage before it is current: DVC compares files as they are now.
    """
    with _repo() as repo:
        return not repo.status([stage])


def is_clean() -> bool:
    """Return whether `dvc status` is clean: data and all stages are current."""
    with _repo() as repo:
        return not repo.status()


def restore(stage: str) -> bool:
    """Bring back the lost outputs of a stage from DVC's cache; return whether the stage is current then.

    Nothing is replaced: if the stage is not current for any other reason, nothing happens.
    """
    with _repo() as repo:
        changes = repo.status([stage]).get(stage, [])
        if len(changes) != 1 or not isinstance(changes[0], dict) or list(changes[0]) != ["changed outs"]:
            return False
        if set(changes[0]["changed outs"].values()) != {"deleted"}:
            return False
        repo.checkout([stage], allow_missing=True)
        return not repo.status([stage])


def source_fingerprints(stages: Iterable[str]) -> dict[str, Fingerprint]:
    """Return, by stage, DVC's present record of data, params and code, which must not change during a run."""
    with _repo() as repo:
        made = {out.fs_path for stage in repo.index.stages if stage.cmd for out in stage.outs}
        return {stage: _fingerprint(repo, stage, made) for stage in stages}


@contextlib.contextmanager
def recorded(stage: str, sources: Fingerprint) -> Iterator[None]:
    """Run the body, which makes the outputs of `stage`, and record inputs and outputs with DVC (`dvc commit -f STAGE`).

    Nothing is recorded if the body fails, if an input has changed since the body began, or if data, params or code
    differ from `sources`: the record would name inputs from which the outputs were not made.
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


def data_digest(folder: Path = Path()) -> str | None:
    """Return the hash of `data/` in the folder's data.dvc (at most 36 characters), None if there is no such file."""
    try:
        content = yaml_text.parse((folder / DATA_FILE).read_text(encoding="utf-8"))
        return str(content["outs"][0]["md5"])[:36]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise UserError(f"{DATA_FILE} cannot be read", f"restore it with `git checkout {DATA_FILE}`") from error


@dataclass(frozen=True)
class Experiment:
    """A result of `dvc exp run`: its commit, the commit it started from, and its time in milliseconds since 1970."""

    name: str
    revision: str
    baseline: str
    when: int
    lock: bytes
    """Its dvc.lock, which names all inputs and outputs: if the present one is equal, so are the results."""


def experiments() -> list[Experiment]:
    """Return all results of `dvc exp run`, of all baselines, the oldest first."""
    with _repo() as repo:
        lock = (root() / LOCK_FILE).relative_to(repo.scm.root_dir).as_posix()
        experiments_of_commits = [
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
    return sorted(experiments_of_commits, key=lambda experiment: (experiment.when, experiment.name))


def lock_file() -> bytes:
    """Return the present dvc.lock, empty if there is none."""
    path = Path(LOCK_FILE)
    return path.read_bytes() if path.is_file() else b""


def extract(revision: str, paths: Iterable[str], into: Path) -> None:
    """Write files of a revision below the folder `into`; leave out those that neither git nor DVC's cache has."""
    with _repo() as repo, repo.switch(revision):
        for path in paths:
            content = _content(repo.dvcfs, path)
            if content is not None:
                files.write_bytes(into / path, content)


def _content(filesystem: Any, path: str) -> bytes | None:
    from dvc.exceptions import DvcException

    try:
        return bytes(filesystem.read_bytes(path))
    except (OSError, DvcException):  # it never existed, or is no longer in the cache
        return None
