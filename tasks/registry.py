"""Registration and the gate as Prefect tasks; both act on the registry, so they are not among the five stages."""

from __future__ import annotations

from prefect import Task, task
from prefect.cache_policies import NO_CACHE

from adaptformer.config.params import GateParams
from adaptformer.registry import promotion, versions
from tasks.limits import slot

REGISTER = Task(versions.register, name="register", task_run_name="register", cache_policy=NO_CACHE)


@task(name="promote", task_run_name="promote", cache_policy=NO_CACHE)
def promote(model: str, bounds: GateParams, *, version: str, who: str | None, why: str) -> promotion.Outcome:
    """Judge a version against the champion, and make it champion if it passes the gate."""
    with slot("promotion"):
        return promotion.promote(model, bounds, version=version, who=who, why=why)
