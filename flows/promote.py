"""The flows `adaptformer/promote` and `adaptformer/rollback`, which change the version in use."""

from __future__ import annotations

import logging

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from adaptformer.config import params
from adaptformer.curation.importing import settling
from adaptformer.gate.decision import markdown
from adaptformer.registry import promotion
from adaptformer.tracking.locations import mlflow_pages
from flows import flow_run, log_filter
from tasks.limits import slot

log_filter.install()
log = logging.getLogger("adaptformer")


@flow(name="adaptformer")
def promote(
    version: int | str | None = None, model: str | None = None, who: str | None = None, why: str = ""
) -> State[str]:
    """Judge a version (the challenger, if none is given) and make it champion if it passes the gate.

    `model` is registry.model unless given. A refusal is a result, not a failure: the run completes in the state
    "Refused".
    """
    settling.settle()
    loaded = params.load()
    flow_run.label(loaded)
    with slot("promotion"):
        outcome = promotion.promote(
            model or loaded.registry.model, loaded.gate, version=_text(version), who=who, why=why
        )
    log.info("%s", outcome.decision.sentence)
    show(outcome)
    return Completed(name="Promoted" if outcome.promoted else "Refused", message=outcome.decision.sentence)


@flow(name="adaptformer")
def rollback(why: str, to: int | str | None = None, model: str | None = None, who: str | None = None) -> State[str]:
    """Make a former champion (the previous one, if none is given) champion again, after loading and running it."""
    settling.settle()
    loaded = params.load()
    flow_run.label(loaded)
    with slot("promotion"):
        moved = promotion.rollback(model or loaded.registry.model, to=_text(to), who=who, why=why)
    log.info("%s", moved.sentence)
    return Completed(name="Rolled back", message=moved.sentence)


def _text(version: int | str | None) -> str | None:
    """Return a version as text, as in the registry; Prefect takes `-p to=2` as a number."""
    return None if version is None else str(version)


def show(outcome: promotion.Outcome) -> None:
    """Write a decision to Prefect's page of the run."""
    pages = mlflow_pages()
    page = f"{pages}/{outcome.link}" if pages else outcome.page.resolve().as_uri()
    text = f"{markdown(outcome.decision)}\n[The decision, with images]({page})\n"
    create_markdown_artifact(key="decision", markdown=text, description=f"The gate's decision on {outcome.name}")
