"""The flow `adaptformer/compare`: methods side by side on the same data and seeds."""

from __future__ import annotations

from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from adaptformer.config import params
from adaptformer.curation.importing import settling
from adaptformer.evaluation.comparison import Trained
from adaptformer.pipeline import method_runs
from adaptformer.pipeline.method_runs import MethodRun
from flows import flow_run, log_filter
from tasks.limits import slot

log_filter.install()


@flow(name="adaptformer")
def compare(
    methods: list[str] | None = None, seeds: list[int] | None = None, overrides: dict[str, Any] | None = None
) -> str:
    """Train every method with every seed on the present data and return the folder of the table and its picture.

    A method is a text of presets and single values, "adaptformer-4 adapter.scale=0.1"; `overrides` by dotted key hold
    for all methods, but a method's own values take precedence. Missing arguments are taken from section `comparison` of
    params.yaml. Each run has a folder of its own, in which finished stages are not repeated.
    """
    settling.settle()
    file = params.read()
    flow_run.label(file.params)
    table, root = method_runs.compare(file, methods, seeds, overrides, complete)
    create_markdown_artifact(key="comparison", markdown=table, description="Methods compared")
    return str(root)


@task(name="compare", task_run_name="{run.method}, seed {run.seed}", cache_policy=NO_CACHE)
def complete(run: MethodRun) -> Trained:
    """Train one method with one seed."""
    with slot("gpu"):
        method_runs.bring_up_to_date(run)
    return method_runs.track(run, flow_run.lineage())
