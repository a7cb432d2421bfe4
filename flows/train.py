"""The flow `adaptformer`: from `data/` to a registered model, skipping what DVC finds current."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run

from adaptformer import files, run_folder, stages
from adaptformer.errors import UserError
from adaptformer.params import Params, difference, load
from adaptformer.presets import overlay
from adaptformer.run_folder import RunFolder
from adaptformer.stages import STAGES
from flows import logs, runs
from flows.summary import Summary, markdown
from tasks import versioning
from tasks.checkout import GitState, git_state
from tasks.registry import present
from tasks.stages import REGISTER, run_stage
from tasks.tracking import Tracker, is_tracked

logs.install()
log = logging.getLogger("adaptformer")


@flow(name="adaptformer", flow_run_name=runs.name)
def train(
    presets: list[str] | None = None, overrides: dict[str, Any] | None = None, register: bool | None = None
) -> Summary:
    """Bring all five stages up to date, record them, track the run and register the model as challenger.

    `presets` by name and `overrides` by dotted key take the place of values in params.yaml; where they change what
    decides results, the run has a folder of its own, DVC's records stay as they are, and the model is registered only
    when `register` says so.
    """
    given = {**overlay(presets or ()), **(overrides or {})}
    folder = run_folder.of(load(), load(overrides=given))
    # A run with overrides writes nothing that DVC knows, so it neither needs DVC's lock nor stands in its way.
    with folder.lock("adaptformer/train"), contextlib.nullcontext() if folder.overridden else versioning.exclusive():
        runs.bury_dead(folder)
        versioning.check_data()
        sources = {} if folder.overridden else versioning.source_fingerprints(STAGES)
        params = load(overrides=given)
        if run_folder.of(load(), params).root != folder.root:
            raise UserError("params.yaml changed as the run began", "run the same command again")
        runs.tag(folder, params.registry.model, *([folder.root.name] if folder.overridden else []))
        with tracked(params, folder, presets or []) as tracker:
            ran = []
            for name in STAGES:
                if is_current(name, params, folder):
                    log.info("%s is current", name)
                    continue
                with contextlib.nullcontext() if folder.overridden else versioning.recorded(name, sources[name]):
                    run_stage(name, params, folder, tracker.log_epoch if name == "train" else None)
                ran.append(name)
            wanted = not folder.overridden if register is None else register
            due = bool({"train", "evaluate", "export"} & set(ran))
            unregistered = wanted and present(folder, params.registry.model) is None
            if due or unregistered or not is_tracked(folder):
                tracker.log_results(folder)
            if wanted and (due or unregistered):
                REGISTER(folder, params.registry.model, tracker.run_id, tracker.lineage)
        summary = Summary.of(folder, params, tuple(ran))
    create_markdown_artifact(key="training", markdown=markdown(summary), description="The last run's result")
    return summary


def is_current(name: str, params: Params, folder: RunFolder) -> bool:
    """Ask whoever keeps the folder's record: DVC in the default folder, the stages themselves in any other."""
    return stages.is_current(name, params, folder) if folder.overridden else versioning.is_current(name)


@contextlib.contextmanager
def tracked(params: Params, folder: RunFolder, presets: Sequence[str]) -> Iterator[Tracker]:
    """Yield the run's tracker, and close its MLflow run as the body ends: finished, failed or killed."""
    git: GitState = git_state()
    lineage = {
        "data.dvc": versioning.data_digest() or "none",
        "git.commit": git.commit,
        "git.dirty": str(git.dirty).lower(),
        "prefect.flow_run_id": str(flow_run.id),
    }
    if changed := difference(load(), params):
        lineage["overrides"] = files.canonical_json(changed)
    if presets:
        lineage["presets"] = ", ".join(presets)
    tracker = Tracker(str(flow_run.name), params, lineage, folder)
    try:
        yield tracker
    except Exception:
        tracker.finish("FAILED")
        raise
    except BaseException:
        tracker.finish("KILLED")
        raise
    tracker.finish("FINISHED")
