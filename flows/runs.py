"""The flow run itself: its name, its tags, and what to do about runs that died."""

from __future__ import annotations

import logging

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.runtime import flow_run
from prefect.states import Crashed

from adaptformer import files
from adaptformer.errors import UserError
from adaptformer.params import load
from adaptformer.run_folder import RunFolder
from tasks.checkout import ROOT, git_state

log = logging.getLogger("adaptformer")


def folder_tag(folder: RunFolder) -> str:
    """Return the tag that tells the runs in this folder from those in others, and in other checkouts, on a server."""
    return f"folder-{files.sha256_text(str(ROOT / folder.root))[:8]}"


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
