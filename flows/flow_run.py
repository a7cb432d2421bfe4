"""The flow run itself: its name, tags and links, and marks for runs that died."""

from __future__ import annotations

import contextlib
import logging
import os

from prefect.artifacts import create_link_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.runtime import flow_run
from prefect.states import Crashed

from adaptformer.base import files
from adaptformer.config.params import Params
from adaptformer.config.run_folder import RunFolder
from adaptformer.tracking import checkout_id, mlflow_store, run_names
from adaptformer.tracking.locations import mlflow_pages
from tasks.limits import TEMPORARY

log = logging.getLogger("adaptformer")


def label(params: Params, *tags: str) -> None:
    """Name the present flow run (run_names.of), and add the model and `tags` to its tags."""
    with get_client(sync_client=True) as client:
        wanted = sorted({*flow_run.tags, params.registry.model, *tags})
        client.update_flow_run(flow_run.id, name=run_names.of(params), tags=wanted)


def lineage() -> dict[str, str]:
    """Return the tags by which MLflow records the flow run."""
    return {"prefect.flow_run_id": str(flow_run.id)}


def folder_tags(folder: RunFolder) -> list[str]:
    """Return tags that only runs in this folder of this checkout have on a server.

    The database of a temporary server is in the checkout and is copied with it. So runs there have a second tag, which
    is the same in a copy.
    """
    places = [checkout_id.place_of(folder), *([str(folder.root)] if TEMPORARY in os.environ else [])]
    return [f"folder-{files.sha256_text(place)[:8]}" for place in places]


def mark_crashed(folder: RunFolder) -> None:
    """Mark runs in this folder that are recorded as running as crashed.

    The caller holds the folder's lock, which the system takes from a process that dies: no other run there is alive.
    """
    with get_client(sync_client=True) as client:
        for tag in folder_tags(folder):
            mine = {"tags": {"all_": [tag]}, "state": {"type": {"any_": ["RUNNING"]}}}
            for dead in client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(mine)):
                if str(dead.id) == str(flow_run.id):
                    continue
                log.info("run %s was killed; marked as crashed", dead.name)
                client.set_flow_run_state(dead.id, Crashed(message="its process was killed"), force=True)


def show_report(folder: RunFolder, run_id: str | None) -> None:
    """Link the evaluation report to the flow run: the copy in MLflow's pages if there are any, else the file."""
    link = folder.report.resolve().as_uri()
    if run_id and (pages := mlflow_pages()):
        with contextlib.suppress(Exception):  # a failure of tracking costs a link, never a run
            link = f"{pages}/{mlflow_store.page_of(mlflow_store.connect().get_run(run_id).info, folder.report.name)}"
    create_link_artifact(key="report", link=link, link_text="Evaluation report", description="On the test split")
