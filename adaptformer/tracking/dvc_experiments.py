"""Results that DVC made, by `dvc repro` or `dvc exp run`, as MLflow runs: one table of experiments, whatever the door.

A result is one row, however often it is logged and from wherever: what lies in the run folder is the experiment whose
dvc.lock is the present one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from adaptformer import files
from adaptformer.errors import UserError
from adaptformer.params import Params, difference, load
from adaptformer.run_folder import RunFolder
from adaptformer.tracking import dvc_repository, mlflow_store, run_files
from adaptformer.tracking.dvc_repository import DATA_FILE, Experiment
from adaptformer.tracking.project import ROOT, git_state
from adaptformer.tracking.record import DATA_TAG, FOLDER_TAG, Record, texts

if TYPE_CHECKING:
    from mlflow import MlflowClient

NAME_TAG, REVISION_TAG = "dvc.exp", "dvc.rev"
SMALL = ("manifest", "backbone_card", "history", "metrics", "predictions", "report")
"""Files of an experiment that are brought out of DVC's cache; the run folder's own are all at hand."""


@dataclass(frozen=True)
class Logged:
    """A result that is in MLflow now; `run_id` is "" where it could not be, and `why` says why."""

    name: str
    top1: float | None = None
    run_id: str = ""
    why: str = ""


def log(client: MlflowClient, names: Sequence[str] = ()) -> Iterator[Logged]:
    """Log the present results of the run folder and all experiments that are not logged, or only those with `names`.

    Raises UserError for a name that no experiment has.
    """
    known = dvc_repository.experiments()
    chosen = [experiment for experiment in known if not names or experiment.name in names]
    if unknown := set(names) - {experiment.name for experiment in chosen}:
        have = ", ".join(experiment.name for experiment in known) or "none yet"
        raise UserError(f"there is no DVC experiment {min(unknown)}", f"`dvc exp list --all` shows them: {have}")
    present = next((experiment for experiment in known if experiment.lock == dvc_repository.lock_file()), None)
    if not names or present in chosen:
        for logged in _log_present(client, present):
            yield logged
            chosen = [experiment for experiment in chosen if not logged.run_id or experiment != present]
    for experiment in chosen:
        yield from _log_experiment(client, experiment)


def _log_present(client: MlflowClient, experiment: Experiment | None) -> Iterator[Logged]:
    """Log the run folder's results; `experiment` has the same ones."""
    folder = RunFolder()
    with folder.lock("adaptformer log"), dvc_repository.exclusive():
        if not folder.model.is_file() or not dvc_repository.is_clean():
            yield Logged(f"{folder.root}/", why="`dvc status` is not clean: what lies there is not what DVC recorded")
            return
        params = load()
        tags = _tags(experiment, params) if experiment else {}
        identity = experiment.revision if experiment else run_files.sha256(folder)
        known = run_files.run_of(folder) or (None if experiment else _sent_before(client, identity))
        if known and mlflow_store.go_on(client, known):
            run_files.remember(folder, known)
            if experiment and not _is_logged(client, experiment):
                mlflow_store.log_files(client, known, tags, [])
                yield Logged(experiment.name, _top1(folder), known)
            return
        git = git_state()
        lineage = {DATA_TAG: dvc_repository.data_digest() or "none", FOLDER_TAG: str(ROOT / folder.root)}
        lineage |= {"git.commit": git.commit, "git.dirty": str(git.dirty).lower(), **tags}
        name = experiment.name if experiment else f"{params.registry.model}-{git.short}"
        when = experiment.when if experiment else int(folder.metrics.stat().st_mtime * 1000)
        row = _record(identity, name, lineage, texts(params.model_dump(mode="json")), when)
        run_id = mlflow_store.send(client, row, row.add_results(folder, when))
        run_files.remember(folder, run_id)
        yield Logged(name, _top1(folder), run_id)


def _log_experiment(client: MlflowClient, experiment: Experiment) -> Iterator[Logged]:
    """Log an experiment from its revision, unless it is logged."""
    if _is_logged(client, experiment):
        return
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        paths = [str(getattr(RunFolder(), name)) for name in SMALL]
        dvc_repository.take_out(experiment.revision, ["params.yaml", DATA_FILE, *paths], root)
        folder = RunFolder(root / RunFolder().root)
        if not folder.metrics.is_file():
            yield Logged(experiment.name, why=f"DVC's cache no longer has its {folder.metrics.name}")
            return
        wanted = _params(root)
        flat = texts(wanted.model_dump(mode="json") if wanted else yaml.safe_load((root / "params.yaml").read_text()))
        tags = {DATA_TAG: dvc_repository.data_digest(root) or "none", **_tags(experiment, wanted)}
        row = _record(experiment.revision, experiment.name, tags, flat, experiment.when)
        run_id = mlflow_store.send(client, row, row.add_results(folder, experiment.when))
        yield Logged(experiment.name, _top1(folder), run_id)


def _record(identity: str, name: str, tags: dict[str, str], params: dict[str, str], when: int) -> Record:
    """Return the record of a result that was made at `when`; its id and times never change, so it is one run."""
    return Record(
        id=f"dvc-{identity}",
        name=name,
        experiment=load().registry.experiment,
        tags=tags,
        params=params,
        start=when,
        end=when,
        status="FINISHED",
    )


def _sent_before(client: MlflowClient, identity: str) -> str | None:
    run = mlflow_store.find(client, load().registry.experiment, mlflow_store.ID_TAG, f"dvc-{identity}")
    return str(run.info.run_id) if run and run.info.status == "FINISHED" else None


def _is_logged(client: MlflowClient, experiment: Experiment) -> bool:
    run = mlflow_store.find(client, load().registry.experiment, REVISION_TAG, experiment.revision)
    return run is not None and run.info.status == "FINISHED"


def _tags(experiment: Experiment, wanted: Params | None) -> dict[str, str]:
    """Return what names an experiment, and what it changed in the params of the commit that it started from."""
    tags = {NAME_TAG: experiment.name, REVISION_TAG: experiment.revision, "git.commit": experiment.baseline}
    with tempfile.TemporaryDirectory() as temporary:
        dvc_repository.take_out(experiment.baseline, ["params.yaml"], Path(temporary))
        before = _params(Path(temporary))
    if wanted and before and (changed := difference(before, wanted)):
        tags["overrides"] = files.canonical_json(changed)
    return tags


def _params(root: Path) -> Params | None:
    """Return the params of a revision, None where they are of a form that was valid only then."""
    try:
        return load(root / "params.yaml")
    except UserError:
        return None


def _top1(folder: RunFolder) -> float:
    return run_files.numbers(folder)["test_top1"]
