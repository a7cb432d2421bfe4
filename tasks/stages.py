"""The five stages as Prefect tasks, called directly so that they run in the flow's own thread."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from prefect import Task, get_run_logger
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.concurrency.sync import concurrency
from prefect.settings import get_current_settings

from adaptformer import stage_runner, stages
from adaptformer.errors import UserError
from adaptformer.params import GateParams, Params
from adaptformer.registry import promotion, versions
from adaptformer.run_folder import RunFolder
from adaptformer.stages import OnEpoch

RETRIES = {"fetch": 2, "train": 2}
"""Only stages that may be entered again: fetch starts over, train resumes from its last state."""

DESCRIPTIONS = {name: (stage.run.__doc__ or "").strip() for name, stage in stages.STAGES.items()}


def run_stage(name: str, params: Params, folder: RunFolder, on_epoch: OnEpoch | None = None) -> None:
    """Run a stage as its Prefect task; the caller holds the folder's lock."""
    TASKS[name](name, params, folder, on_epoch)


def _body(name: str, params: Params, folder: RunFolder, on_epoch: OnEpoch | None) -> None:
    with slot("gpu") if name == "train" else contextlib.nullcontext():
        stage_runner.run(name, params, folder, on_epoch)


def _worth_retrying(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Say whether the failure may go away by itself; what the user must mend does not."""
    return not isinstance(state.data, UserError)


@contextlib.contextmanager
def slot(limit: str) -> Iterator[None]:
    """Hold a place of a global concurrency limit, `gpu` or `promotion`, where a lasting server is in use.

    A temporary server would keep the place of a killed run for ever, and locks on files serialise there anyway.
    """
    if not get_current_settings().api.url:
        yield
        return
    logger = get_run_logger()
    logger.info("Waiting for the concurrency limit %s", limit)
    held = concurrency(limit, lease_duration=60, timeout_seconds=600)
    try:
        held.__enter__()
    except TimeoutError as error:
        raise UserError(
            f"other runs have kept the concurrency limit `{limit}` for ten minutes",
            f"run the same command again later; `prefect global-concurrency-limit inspect {limit}` shows the limit",
        ) from error
    with contextlib.ExitStack() as stack:
        stack.push(held.__exit__)
        yield


TASKS = {
    name: Task(
        _body,
        name=name,
        task_run_name=name,
        description=DESCRIPTIONS[name],
        cache_policy=NO_CACHE,
        retries=RETRIES.get(name, 0),
        retry_delay_seconds=5,
        retry_condition_fn=_worth_retrying,
    )
    for name in stages.STAGES
}
"""One task a stage, by the stage's name."""

REGISTER = Task(
    versions.register,
    name="register",
    task_run_name="register",
    description="Make the ONNX file the challenger of its registered model.",
    cache_policy=NO_CACHE,
)
"""The registry's step as a task: it acts on the world, so it is none of the five stages."""


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
"""The gate as a task of the flow that has just registered a model."""
