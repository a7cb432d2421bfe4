"""The flow `adaptformer`: from `data/` to a registered model, skipping what DVC finds current."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run

from adaptformer.params import Params, load
from adaptformer.run_folder import RunFolder
from adaptformer.stages import STAGES
from flows import logs, runs
from flows.summary import Summary, markdown
from tasks import versioning
from tasks.checkout import GitState, git_state
from tasks.registry import present
from tasks.stages import REGISTER, run_stage
from tasks.tracking import Tracker

logs.install()
log = logging.getLogger("adaptformer")


@flow(name="adaptformer", flow_run_name=runs.name)
def train() -> Summary:
    """Bring all five stages up to date, record them with DVC, track the run and register the model as challenger."""
    folder = RunFolder()
    with folder.lock("adaptformer/train"), versioning.exclusive():
        runs.bury_dead()
        versioning.check_data()
        sources = versioning.source_fingerprints(STAGES)
        params = load()
        runs.tag(params.registry.model)
        with tracked(params) as tracker:
            ran = []
            for name in STAGES:
                if versioning.is_current(name):
                    log.info("%s is current", name)
                    continue
                with versioning.recorded(name, sources[name]):
                    run_stage(name, params, folder, tracker.log_epoch if name == "train" else None)
                ran.append(name)
            if {"train", "evaluate", "export"} & set(ran) or present(folder, params.registry.model) is None:
                tracker.log_results(folder)
                REGISTER(folder, params.registry.model, tracker.run_id, tracker.lineage)
        summary = Summary.of(folder, params, tuple(ran))
    create_markdown_artifact(key="training", markdown=markdown(summary), description="The last run's result")
    return summary


@contextlib.contextmanager
def tracked(params: Params) -> Iterator[Tracker]:
    """Yield the run's tracker, and close its MLflow run as the body ends: finished, failed or killed."""
    git: GitState = git_state()
    lineage = {
        "data.dvc": versioning.data_digest() or "none",
        "git.commit": git.commit,
        "git.dirty": str(git.dirty).lower(),
        "prefect.flow_run_id": str(flow_run.id),
    }
    tracker = Tracker(str(flow_run.name), params, lineage)
    try:
        yield tracker
    except Exception:
        tracker.finish("FAILED")
        raise
    except BaseException:
        tracker.finish("KILLED")
        raise
    tracker.finish("FINISHED")
