"""Registration as a Prefect task; it acts on the world, so it is none of the five stages."""

from __future__ import annotations

from prefect import Task
from prefect.cache_policies import NO_CACHE

from adaptformer.registry import versions

REGISTER = Task(
    versions.register,
    name="register",
    task_run_name="register",
    description="Make the ONNX file the challenger of its registered model.",
    cache_policy=NO_CACHE,
)
