"""The whole run: stages that are not current, tracking in MLflow, registration, the gate, and the summary.

A flow hands over Prefect's tasks as the way to execute these steps.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from adaptformer.base.errors import UserError
from adaptformer.config.params import GateParams, Params, ParamsFile, difference
from adaptformer.config.run_folder import RunFolder
from adaptformer.pipeline import records, stage_runner, summary
from adaptformer.pipeline.stage_runner import Execute, Runner
from adaptformer.pipeline.stages import STAGES
from adaptformer.pipeline.summary import Summary
from adaptformer.registry import result_check, versions
from adaptformer.registry.versions import Registration, is_due, mark_judged, present, reason_not_to_judge
from adaptformer.tracking import dvc_repository, mlflow_store, run_files, uploads
from adaptformer.tracking.locations import tracking_place
from adaptformer.tracking.tracker import Tracker, tracked

if TYPE_CHECKING:
    from adaptformer.registry.promotion import Outcome

log = logging.getLogger("adaptformer")


@dataclass(frozen=True)
class Request:
    """A request for a run with `params`, resolved from `file` with `presets`, in the run folder `folder`.

    `register` is by default true only in the default folder; `promotion`, if given, replaces registry.promotion; `who`
    is named in the history of the model if the gate promotes it.
    """

    file: ParamsFile
    params: Params
    folder: RunFolder
    presets: Sequence[str] = ()
    register: bool | None = None
    promotion: Literal["auto", "never"] | None = None
    who: str | None = None

    @property
    def registers(self) -> bool:
        """Whether the model is to be registered."""
        return not self.folder.isolated if self.register is None else self.register

    def registration(self) -> Registration | None:
        """Return the registration of the model that is in the folder now, None if there is none. Hashes the model."""
        return present(self.folder, self.params.registry.model)

    def judges(self, registration: Registration | None) -> bool:
        """Return whether the gate has to judge the folder's model, whose registration is given."""
        return self.registers and is_due(registration, self.promotion or self.params.registry.promotion)


def _promote(model: str, bounds: GateParams, *, version: str, who: str | None, why: str) -> Outcome:
    from adaptformer.registry import promotion  # takes a while, and most runs ask no gate

    return promotion.promote(model, bounds, version=version, who=who, why=why)


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Steps:
    """How the steps of a run are executed; by default they are called.

    `begin` is called when the run has its folder to itself; `holder` is the command that others see meanwhile.
    """

    holder: str = "adaptformer run"
    begin: Callable[[], None] = _nothing
    stage: Execute = stage_runner.run
    register: Callable[[RunFolder, str, str | None, Mapping[str, str]], Registration] = versions.register
    promote: Callable[..., Outcome] = _promote


CALLED = Steps()


def update(request: Request, steps: Steps = CALLED, lineage: Mapping[str, str] | None = None) -> Summary:
    """Bring all stages up to date and record them, track the run, register its model, and ask the gate.

    `lineage` are tags for MLflow. Raises UserError if data, params or code change meanwhile; a failure of tracking
    alone stops nothing.
    """
    params, folder = request.params, request.folder
    mlflow_store.require_installed()
    record = records.of_run(params, folder)
    with folder.lock(steps.holder), record.exclusive():
        steps.begin()
        if folder.isolated:  # its record does not compare data/ with data.dvc, by which MLflow's tags name the data
            dvc_repository.check_data()
        request.file.require_unchanged()  # since it was read, so that the record has the same params
        tags = {**(lineage or {}), "presets": ", ".join(request.presets)}
        with tracked(params, difference(request.file.params, params), folder, tags) as tracker:
            runner = Runner(params, folder, record, execute=steps.stage)
            ran = tuple(name for name in STAGES if runner.bring_up_to_date(name, _listener(name, tracker)))
            decision = _hand_on(request, steps, tracker, ran)
        return Summary.of(folder, params, ran, decision, tracker.run_id)


def _listener(stage: str, tracker: Tracker) -> Callable[..., None] | None:
    return tracker.log_epoch if stage == "train" else None


def _hand_on(request: Request, steps: Steps, tracker: Tracker, ran: Sequence[str]) -> str:
    """Track and register what is new in the run folder; return the gate's decision as a sentence, "" if it is old."""
    folder, model = request.folder, request.params.registry.model
    result_check.require(folder)
    new = bool({"train", "evaluate", "export"} & set(ran))
    unregistered = request.registers and request.registration() is None
    if new or unregistered or not run_files.is_tracked(folder):
        tracker.log_results(folder)
    if request.registers and (new or unregistered):
        steps.register(folder, model, tracker.run_id, tracker.lineage)
    registration = request.registration()
    if registration is None or not request.judges(registration):
        return ""
    decision = _judged(registration, request, steps)
    mark_judged(folder, registration)
    return decision


def _judged(registration: Registration, request: Request, steps: Steps) -> str:
    """Return the gate's decision on a registered version as a sentence, or why it is not judged."""
    if (reason := reason_not_to_judge(registration)) is not None:
        return reason
    bounds = request.params.gate
    outcome = steps.promote(registration.model, bounds, version=registration.version, who=request.who, why="")
    log.info("%s", outcome.decision.sentence)
    return outcome.decision.sentence


def unchanged(request: Request) -> Summary | None:
    """Return the summary of a run that has nothing to do, None if there is something; imports no MLflow and no torch.

    Raises UserError unless `data/` is as data.dvc records it.
    """
    folder = request.folder
    dvc_repository.check_data()
    registration = request.registration()
    if (request.registers and registration is None) or request.judges(registration):
        return None
    if not run_files.is_tracked(folder) or not records.of_run(request.params, folder).is_complete():
        return None
    return Summary.of(folder, request.params, ())


def show(request: Request, work: Callable[[], Summary]) -> None:
    """Call `work`, which does `update`, unless nothing has changed; print the summary.

    Runs that wait for upload are uploaded in either case.
    """
    began = time.monotonic()
    result = unchanged(request)
    if result is not None:
        print("Nothing has changed since the last run: data, params, code and results are as recorded.\n")
        _upload_waiting()
    else:
        result = work()
        ran = ", ".join(result.ran) or "nothing: all stages are current"
        print(f"\nDone in {time.monotonic() - began:.0f} s; ran {ran}.\n")
    print(summary.text(result, request.folder, tracking_place()))


def _upload_waiting() -> None:
    if not uploads.waiting():
        return
    try:
        with mlflow_store.user_errors("runs that are not uploaded still wait"):
            for uploaded in uploads.upload_waiting(mlflow_store.connect()):
                print(uploaded.sentence)
    except UserError as error:
        print(f"warning: {error.cause}")


def stages_only(params: Params, folder: RunFolder, options: Sequence[str] = ()) -> None:
    """Bring all stages up to date and record them; neither track nor register anything.

    The remedies of errors repeat `options`, presets and overrides as they were given.
    """
    record = records.of_run(params, folder, options)
    with folder.lock(CALLED.holder), record.exclusive():
        runner = Runner(params, folder, record, options)
        for name in STAGES:
            runner.bring_up_to_date(name)
