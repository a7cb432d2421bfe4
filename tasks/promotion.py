"""The gate as a Prefect task of the flow that has just registered a model."""

from __future__ import annotations

from prefect import Task
from prefect.cache_policies import NO_CACHE

from adaptformer.params import GateParams
from adaptformer.registry import promotion
from tasks.limits import slot


def _promote(model: str, bounds: GateParams, *, version: str, who: str, why: str) -> promotion.Outcome:
    with slot("promotion"):
        return promotion.promote(model, bounds, version=version, who=who, why=why)


PROMOTE = Task(
    _promote,
    name="promote",
    task_run_name="promote",
    description="Judge a version against the champion, and make it champion if it passes the gate.",
    cache_policy=NO_CACHE,
)
