"""Results of `dvc repro` and `dvc exp run` as MLflow runs, so that MLflow lists all experiments.

A result is one MLflow run, however often it is logged and from whichever folder. The results in the run folder belong
to the experiment whose dvc.lock equals the present one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptformer.base import files, yaml_text
from adaptformer.base.errors import UserError
from adaptformer.config.params import Params, difference, load
from adaptformer.config.run_folder import RunFolder
from adaptformer.tracking import checkout_id, dvc_repository, mlflow_run, mlflow_store, run_files, run_names
from adaptformer.tracking.dvc_repository import DATA_FILE, Experiment
from adaptformer.tracking.git import git_tags
from adaptformer.tracking.mlflow_run import DATA_TAG, FOLDER_TAG, ID_TAG, Description

if TYPE_CHECKING:
    from mlflow import MlflowClient

NAME_TAG, REVISION_TAG = "dvc.exp", "dvc.rev"
SMALL = ("manifest", "backbone_card", "history", "metrics", "predictions", "report")
"""Files that are logged for an experiment that only DVC's cache holds; for results in the run folder all are logged."""


@dataclass(frozen=True)
class Logged:
    """The outcome of logging one result; `run_id` is "" if it could not be logged, and `why` then holds the reason."""

    name: str
    top1: float | None = None
    run_id: str = ""
    why: str = ""


def log(client: MlflowClient, names: Sequence[str] = ()) -> Iterator[Logged]:
    """Log the results in the run folder and of all experiments, or only of those with `names`, if not logged yet.

    Raises UserError for a name that no experiment has.
    """
    known = dvc_repository.experiments()
    selected = [experiment for experiment in known if not names or experiment.name in names]
    if unknown := set(names) - {experiment.name for experiment in selected}:
        have = ", ".join(experiment.name for experiment in known) or "none yet"
        raise UserError(f"there is no DVC experiment {min(unknown)}", f"`dvc exp list --all` shows them: {have}")
    present = next((experiment for experiment in known if experiment.lock == dvc_repository.lock_file()), None)
    if not names or present in selected:
        for logged in _log_present(client, present):
            yield logged
            selected = [experiment for experiment in selected if not logged.run_id or experiment != present]
    for experiment in selected:
        yield from _log_experiment(client, experiment)


def _log_present(client: MlflowClient, experiment: Experiment | None) -> Iterator[Logged]:
    """Log the results in the run folder, which are those of `experiment` if it is given."""
    folder = RunFolder()
    with folder.lock("adaptformer sync"), dvc_repository.exclusive():
        if not folder.model.is_file() or not dvc_repository.is_clean():
            yield Logged(f"{folder.root}/", why="`dvc status` is not clean: these results are not what DVC recorded")
            return
        params = load()
        tags = _tags(experiment, params) if experiment else {}
        lineage = {
            DATA_TAG: dvc_repository.data_digest() or "none",
            FOLDER_TAG: checkout_id.place_of(folder),
            **git_tags(),
        }
        run = _description(
            experiment.revision if experiment else run_files.sha256(folder),
            experiment.name if experiment else run_names.of(params),
            {**lineage, **tags},
            mlflow_run.as_text(params.model_dump(mode="json")),
            experiment.when if experiment else int(folder.metrics.stat().st_mtime * 1000),
        )
        run_id = run_files.run_of(folder) or (None if experiment else _finished(client, ID_TAG, run.id))
        if run_id is None or not mlflow_run.mark_finished(client, run_id):
            yield Logged(run.name, _top1(folder), mlflow_run.upload(client, run, folder))
            return
        run_files.remember(folder, run_id, finished=True)
        if experiment and not _finished(client, REVISION_TAG, experiment.revision):
            for key, value in tags.items():
                client.set_tag(run_id, key, value)
            yield Logged(run.name, _top1(folder), run_id)


def _log_experiment(client: MlflowClient, experiment: Experiment) -> Iterator[Logged]:
    """Log an experiment from DVC's cache, unless it is logged."""
    if _finished(client, REVISION_TAG, experiment.revision):
        return
    with tempfile.TemporaryDirectory() as temporary:
        checkout = Path(temporary)
        paths = [str(getattr(RunFolder(), name)) for name in SMALL]
        dvc_repository.extract(experiment.revision, ["params.yaml", DATA_FILE, *paths], checkout)
        folder = RunFolder(checkout / RunFolder().root)
        if not folder.metrics.is_file():
            yield Logged(experiment.name, why=f"DVC's cache no longer has its {folder.metrics.name}")
            return
        params = _params(checkout)
        content = params.model_dump(mode="json") if params else _sections(checkout)
        if content is None:
            yield Logged(experiment.name, why="its params.yaml cannot be read")
            return
        tags = {DATA_TAG: dvc_repository.data_digest(checkout) or "none", **_tags(experiment, params)}
        run = _description(experiment.revision, experiment.name, tags, mlflow_run.as_text(content), experiment.when)
        yield Logged(experiment.name, _top1(folder), mlflow_run.upload(client, run, folder))


def _description(identity: str, name: str, tags: dict[str, str], params: dict[str, str], when: int) -> Description:
    """Return the description of a run; the same result always gives the same id and times."""
    return Description(f"dvc-{identity}", name, load().registry.experiment, tags, params, when, when, "FINISHED")


def _finished(client: MlflowClient, tag: str, value: str) -> str | None:
    """Return the id of the finished run with this tag, None if there is none."""
    run = mlflow_store.find_run(client, load().registry.experiment, tag, value)
    return str(run.info.run_id) if run and run.info.status == "FINISHED" else None


def _tags(experiment: Experiment, params: Params | None) -> dict[str, str]:
    """Return an experiment's name, its commits, and its overrides of the params of the commit it started from."""
    tags = {NAME_TAG: experiment.name, REVISION_TAG: experiment.revision, "git.commit": experiment.baseline}
    with tempfile.TemporaryDirectory() as temporary:
        dvc_repository.extract(experiment.baseline, ["params.yaml"], Path(temporary))
        before = _params(Path(temporary))
    if params and before and (changed := difference(before, params)):
        tags["overrides"] = files.canonical_json(changed)
    return tags


def _params(checkout: Path) -> Params | None:
    """Return the params of a revision, None if they are not valid for the present code."""
    try:
        return load(checkout / "params.yaml")
    except UserError:
        return None


def _sections(checkout: Path) -> dict[str, Any] | None:
    """Return the values of a revision's params.yaml, valid or not; None if it is not YAML with sections."""
    try:
        content = yaml_text.parse((checkout / "params.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _top1(folder: RunFolder) -> float:
    return run_files.numbers(folder)["test_top1"]
