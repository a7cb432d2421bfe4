"""The flow `adaptformer/train`: from `data/` to a registered model; stages that are current are skipped."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from typing import Any, Literal

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from adaptformer import presets as all_presets
from adaptformer.config import run_folder
from adaptformer.config.params import GateParams, Params, ParamsFile, difference
from adaptformer.config.run_folder import RunFolder
from adaptformer.dataset_import import settling
from adaptformer.pipeline import stage_runner
from adaptformer.pipeline.stages import STAGES
from adaptformer.pipeline.summary import Summary, markdown
from adaptformer.registry import belonging
from adaptformer.registry.versions import Registration, is_due, mark_judged, present, reason_not_to_judge
from adaptformer.tracking import dvc_repository
from adaptformer.tracking.run_files import is_tracked
from adaptformer.tracking.tracker import tracked
from flows import flow_run, log_filter
from flows.promote import show
from tasks.registry import REGISTER, promote
from tasks.stages import TASKS

log_filter.install()
log = logging.getLogger("adaptformer")


@flow(name="adaptformer")
def train(
    presets: list[str] | None = None,
    overrides: dict[str, Any] | None = None,
    register: bool | None = None,
    promotion: Literal["auto", "never"] | None = None,
    who: str | None = None,
) -> Summary:
    """Bring all five stages up to date, record them, track the run and register the model as challenger.

    `presets` by name and `overrides` by dotted key replace values of params.yaml. If they change values that results
    depend on, the run has a folder of its own, DVC's records stay as they are, and the model is registered only if
    `register` is true. `promotion`, if given, replaces registry.promotion: with "auto" the gate judges every newly
    registered model, in the name of `who`.
    """
    settling.settle()
    file, params = all_presets.resolve(presets or (), overrides)
    return update(file, params, presets or (), register, promotion, who)


def update(
    file: ParamsFile,
    params: Params,
    presets: Sequence[str] = (),
    register: bool | None = None,
    promotion: Literal["auto", "never"] | None = None,
    who: str | None = None,
) -> Summary:
    """Do the work of the flow, within its run, with `params` that were resolved from `file`."""
    folder = run_folder.of(file.params, params)
    # A run with overrides writes no file that DVC tracks, so it neither needs DVC's lock nor blocks it.
    with (
        folder.lock("adaptformer/train"),
        contextlib.nullcontext() if folder.overridden else dvc_repository.exclusive(),
    ):
        flow_run.label(params, *flow_run.folder_tags(folder), *([folder.root.name] if folder.overridden else []))
        flow_run.mark_crashed(folder)
        dvc_repository.check_data()
        sources = {} if folder.overridden else dvc_repository.source_fingerprints(STAGES)
        file.require_unchanged()  # since it was read, so that the fingerprints have the same params
        tags = {**flow_run.lineage(), "presets": ", ".join(presets)}
        with tracked(params, difference(file.params, params), folder, tags) as tracker:
            ran = []
            for name in STAGES:
                if is_current(name, params, folder):
                    log.info("%s is current", name)
                    folder.unfinished(name).unlink(missing_ok=True)  # left by a run with other data, which were undone
                    continue
                with contextlib.nullcontext() if folder.overridden else dvc_repository.recorded(name, sources[name]):
                    TASKS[name](name, params, folder, tracker.log_epoch if name == "train" else None)
                ran.append(name)
            belonging.require(folder)
            wanted = not folder.overridden if register is None else register
            due = bool({"train", "evaluate", "export"} & set(ran))
            unregistered = wanted and present(folder, params.registry.model) is None
            if due or unregistered or not is_tracked(folder):
                tracker.log_results(folder)
            decision = ""
            if wanted and (due or unregistered):
                REGISTER(folder, params.registry.model, tracker.run_id, tracker.lineage)
            registration = present(folder, params.registry.model)
            if registration and wanted and is_due(registration, promotion or params.registry.promotion):
                decision = judge(registration, params.gate, who)
                mark_judged(folder, registration)
        flow_run.show_report(folder, tracker.run_id)
        summary = Summary.of(folder, params, tuple(ran), decision)
    create_markdown_artifact(key="training", markdown=markdown(summary), description="The last run's result")
    return summary


def judge(registration: Registration, bounds: GateParams, who: str | None) -> str:
    """Let the gate judge a registered version and return the decision's sentence, or why it is not judged."""
    if (reason := reason_not_to_judge(registration)) is not None:
        return reason
    outcome = promote(registration.model, bounds, version=registration.version, who=who, why="")
    show(outcome)
    return outcome.decision.sentence


def is_current(name: str, params: Params, folder: RunFolder) -> bool:
    """Return whether a stage is current, by DVC's record for the default folder, by the stages' own for any other."""
    return stage_runner.is_current(name, params, folder) if folder.overridden else dvc_repository.is_current(name)
