"""The flow `adaptformer/sweep`: a search of values by trials, in this run or in several runs at once."""

from __future__ import annotations

import functools
import time
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.deployments import run_deployment

from adaptformer.base.errors import UserError
from adaptformer.config import params
from adaptformer.curation.importing import settling
from adaptformer.pipeline import sweep_runs
from flows import flow_run, log_filter
from tasks.limits import slot

log_filter.install()

SECONDS_BETWEEN_LOOKS = 2


@flow(name="adaptformer")
def sweep(
    search: list[str] | None = None,
    trials: int | None = None,
    overrides: dict[str, Any] | None = None,
    workers: int = 1,
) -> str:
    """Search values of params.yaml and return the folder of the table, the picture and the best params.

    `search` has texts such as "training.base_lr=0.001..0.1 log"; `overrides` by dotted key hold for all trials. Missing
    arguments are taken from section `sweep` of params.yaml. With several `workers`, that many runs of
    adaptformer/trials share the trials; each trial waits for the concurrency limit `gpu`.
    """
    settling.settle()
    file = params.read()
    flow_run.label(file.params)
    opened = sweep_runs.opened(file, search, trials, overrides)
    if workers == 1:
        sweep_runs.work(opened, functools.partial(slot, "gpu", patience=None), flow_run.lineage())
    else:
        _by_several(workers, {"search": search, "trials": trials, "overrides": overrides})
    table, values = sweep_runs.finish(opened)
    best = " ".join(params.as_override(key, value) for key, value in values.items())
    create_markdown_artifact(key="sweep", markdown=f"{table}\nBest: `{best}`\n", description="Trials of a sweep")
    return str(opened.root)


@flow(name="adaptformer")
def trials(search: list[str] | None = None, trials: int | None = None, overrides: dict[str, Any] | None = None) -> None:
    """Work on a sweep until no trial is left; other runs of this flow may do the same."""
    settling.settle()
    file = params.read()
    flow_run.label(file.params)
    opened = sweep_runs.opened(file, search, trials, overrides)
    sweep_runs.work(opened, functools.partial(slot, "gpu", patience=None), flow_run.lineage())


def _by_several(workers: int, given: dict[str, Any]) -> None:
    """Start runs of adaptformer/trials and wait until all have ended. Raises UserError if one did not complete."""
    started = [run_deployment("adaptformer/trials", parameters=given, timeout=0) for _ in range(workers)]
    with get_client(sync_client=True) as client:
        while True:
            states = [client.read_flow_run(run.id).state for run in started]  # type: ignore[union-attr]
            if all(state is not None and state.is_final() for state in states):
                break
            time.sleep(SECONDS_BETWEEN_LOOKS)
    if failed := [state for state in states if state is not None and not state.is_completed()]:
        raise UserError(
            f"{len(failed)} of {workers} runs of adaptformer/trials ended as {failed[0].name}",
            "see their logs in Prefect; the same command continues with the remaining trials",
        )
