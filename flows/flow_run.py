"""The flow run itself: its name, its tags, and what to do about runs that died."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from prefect.artifacts import create_link_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.runtime import flow_run
from prefect.states import Crashed

from adaptformer import files
from adaptformer.errors import UserError
from adaptformer.params import Params, difference, load
from adaptformer.run_folder import RunFolder
from adaptformer.tracking import dvc_repository, mlflow_store
from adaptformer.tracking.git import git_state
from adaptformer.tracking.locations import mlflow_pages, root
from adaptformer.tracking.tracker import Tracker

log = logging.getLogger("adaptformer")


def folder_tag(folder: RunFolder) -> str:
    """Return the tag that tells the runs in this folder from those in others, and in other checkouts, on a server."""
    return f"folder-{files.sha256_text(str(root() / folder.root))[:8]}"


def name() -> str:
    """Name a flow run after the model and the commit."""
    try:
        model = load().registry.model
    except UserError:  # the flow is about to tell it
        model = "adaptformer"
    return f"{model}-{git_state().short}"


def tag(folder: RunFolder, *tags: str) -> None:
    """Add tags to the present flow run, beside those of its deployment and of its run folder."""
    with get_client(sync_client=True) as client:
        client.update_flow_run(flow_run.id, tags=sorted({*flow_run.tags, *tags, folder_tag(folder)}))


def bury_dead(folder: RunFolder) -> None:
    """Mark runs in this folder that call themselves running as crashed.

    The caller holds the folder's lock, which the system takes from a process that dies: no other run there is alive.
    """
    mine = {"tags": {"all_": [folder_tag(folder)]}, "state": {"type": {"any_": ["RUNNING"]}}}
    with get_client(sync_client=True) as client:
        for dead in client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(mine)):
            if str(dead.id) != str(flow_run.id):
                log.info("run %s was killed; marked as crashed", dead.name)
                client.set_flow_run_state(dead.id, Crashed(message="its process was killed"), force=True)


def show_report(folder: RunFolder, run_id: str | None) -> None:
    """Link the evaluation report to the flow run: the copy in MLflow's pages where there are some, else the file."""
    link = folder.report.resolve().as_uri()
    if run_id and (pages := mlflow_pages()):
        with contextlib.suppress(Exception):  # tracking that fails costs a link, never a run
            link = f"{pages}/{mlflow_store.page_of(mlflow_store.connect().get_run(run_id).info, folder.report.name)}"
    create_link_artifact(key="report", link=link, link_text="Evaluation report", description="On the test split")


@contextlib.contextmanager
def tracked(params: Params, folder: RunFolder, **tags: str) -> Iterator[Tracker]:
    """Yield the flow run's tracker, and close its MLflow run as the body ends: finished, failed or killed.

    The tags that are not empty join the lineage.
    """
    lineage = {
        "data.dvc": dvc_repository.data_digest() or "none",
        **git_state().tags,
        "prefect.flow_run_id": str(flow_run.id),
        **{key: value for key, value in tags.items() if value},
    }
    if changed := difference(load(), params):
        lineage["overrides"] = files.canonical_json(changed)
    tracker = Tracker(str(flow_run.name), params, lineage, folder)
    tracker.upload_waiting()
    try:
        yield tracker
    except Exception:
        tracker.finish("FAILED")
        raise
    except BaseException:
        tracker.finish("KILLED")
        raise
    tracker.finish("FINISHED")
