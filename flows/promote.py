"""The flows `adaptformer/promote` and `adaptformer/rollback`: what is in use, moved with reasons."""

from __future__ import annotations

import logging

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from adaptformer.gate.decision import markdown
from adaptformer.params import load
from adaptformer.registry import promotion
from adaptformer.tracking.git import user_name
from adaptformer.tracking.locations import mlflow_pages
from flows import flow_run, log_filter
from tasks.stages import slot

log_filter.install()
log = logging.getLogger("adaptformer")


@flow(name="adaptformer", flow_run_name=flow_run.name)
def promote(
    version: int | str | None = None, model: str | None = None, who: str | None = None, why: str = ""
) -> State[str]:
    """Judge a version (the challenger, if none is given) and make it champion if it passes the gate.

    `model` is registry.model unless given. A refusal is an answer, not a failure: the run completes in the state
    "Refused".
    """
    params = load()
    with slot("promotion"):
        outcome = promotion.promote(
            model or params.registry.model, params.gate, version=_text(version), who=who or user_name(), why=why
        )
    show(outcome)
    return Completed(name="Promoted" if outcome.promoted else "Refused", message=outcome.decision.sentence)


@flow(name="adaptformer", flow_run_name=flow_run.name)
def rollback(why: str, to: int | str | None = None, model: str | None = None, who: str | None = None) -> State[str]:
    """Put a version (the one before the champion, if none is given) back to use, after it was loaded and run."""
    with slot("promotion"):
        moved = promotion.rollback(model or load().registry.model, to=_text(to), who=who or user_name(), why=why)
    log.info("%s", moved.sentence)
    return Completed(name="Rolled back", message=moved.sentence)


def _text(version: int | str | None) -> str | None:
    """Return a version as the registry writes it; `-p to=2` is a number to Prefect."""
    return None if version is None else str(version)


def show(outcome: promotion.Outcome) -> None:
    """Put a decision into the log and onto Prefect's page of the run."""
    log.info("%s", outcome.decision.sentence)
    pages = mlflow_pages()
    page = f"{pages}/{outcome.link}" if pages else outcome.page.resolve().as_uri()
    text = f"{markdown(outcome.decision)}\n[The decision, with images]({page})\n"
    create_markdown_artifact(key="decision", markdown=text, description=f"The gate's decision on {outcome.name}")
