"""The five stages as Prefect tasks, called directly so that they run in the flow's own thread."""

from __future__ import annotations

import contextlib
from typing import Any

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun

from adaptformer.base.errors import UserError
from adaptformer.config.params import Params
from adaptformer.config.run_folder import RunFolder
from adaptformer.pipeline import stage_runner, stages
from adaptformer.pipeline.stages import OnEpoch
from tasks.limits import slot

RETRIES = {"fetch": 2, "train": 2}
"""How often a failed stage is retried; fetch starts over, and train resumes from its last state."""


def _body(name: str, params: Params, folder: RunFolder, on_epoch: OnEpoch | None) -> None:
    with slot("gpu") if name == "train" else contextlib.nullcontext():
        stage_runner.run(name, params, folder, on_epoch)


def _worth_retrying(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Return whether the failure may go away by itself; one that the user must fix does not."""
    return not isinstance(state.data, UserError)


TASKS = {
    name: Task(
        _body,
        name=name,
        task_run_name=name,
        description=(stage.run.__doc__ or "").strip(),
        cache_policy=NO_CACHE,
        retries=RETRIES.get(name, 0),
        retry_delay_seconds=5,
        retry_condition_fn=_worth_retrying,
    )
    for name, stage in stages.STAGES.items()
}
"""The task of each stage, by its name; the caller holds the folder's lock."""


def run(name: str, params: Params, folder: RunFolder, on_epoch: OnEpoch | None) -> None:
    """Execute a stage as a task."""
    TASKS[name](name, params, folder, on_epoch)
