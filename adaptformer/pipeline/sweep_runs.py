"""The runs of a sweep: each trial is trained in a run folder of its own, tracked, and compared with the others.

Trials are judged on the validation split; the test split is used only when the best trial is evaluated.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptformer.base import files, interruption
from adaptformer.base.errors import UserError
from adaptformer.config import params, run_folder
from adaptformer.config.params import ParamsFile
from adaptformer.pipeline import records
from adaptformer.pipeline.stage_runner import Runner
from adaptformer.sweeps import results, space
from adaptformer.sweeps.study import Pruned, Result, Settings, Study, Trial
from adaptformer.tracking import dvc_repository
from adaptformer.tracking.tracker import tracked
from adaptformer.training import history

log = logging.getLogger("adaptformer")

Place = Callable[[], contextlib.AbstractContextManager[None]]
"""A resource that a trial waits for before it begins, such as a GPU."""


@dataclass(frozen=True)
class Sweep:
    """A sweep that is open: its trials, its folder, and the values that all trials share."""

    file: ParamsFile
    overrides: Mapping[str, object]
    study: Study
    root: Path
    metric: str


def opened(
    file: ParamsFile, search: Sequence[str] | None, trials: int | None, overrides: Mapping[str, object] | None
) -> Sweep:
    """Open an existing sweep or a new one; an argument that is None is taken from section `sweep` of the file.

    `overrides` by dotted key hold for all trials. The folder's name is a hash of everything that decides which values
    are tried, but not of `trials`, so that a larger number continues the sweep. Raises UserError for a search that
    cannot be read.
    """
    section = file.params.sweep
    shared = {**params.parse_overrides(section.overrides), **(overrides or {})}
    same = file.replaced(shared)
    dimensions = space.parse(search or section.search, file, shared)
    metric = same.training.selection_metric
    settings = Settings(trials or section.trials, section.sampler, section.pruner, section.seed, metric)
    if settings.sampler == "grid":
        next(space.combinations(dimensions))
    dvc_repository.check_data()
    decides = [list(map(repr, dimensions)), section.sampler, section.pruner, section.seed, params.tracked(same)]
    root = run_folder.DEFAULT / "sweeps" / files.sha256_text(files.canonical_json(decides))[:12]
    return Sweep(file, shared, Study(root, section.storage, dimensions, settings), root, metric)


def work(sweep: Sweep, place: Place = contextlib.nullcontext, tags: Mapping[str, str] | None = None) -> None:
    """Train trials until none is left. Several processes may do so at once.

    A trial that fails is recorded with its reason, and the next one begins.
    """
    with sweep.study.working():
        while True:
            with place():
                if (trial := sweep.study.next()) is None:
                    return
                sweep.file.require_unchanged()
                _train(sweep, trial, tags or {})


def finish(sweep: Sweep) -> tuple[str, dict[str, Any]]:
    """Write the sweep's results; return the table in Markdown and the values of the best trial, for params.yaml.

    Raises UserError if no trial has ended or none was completed.
    """
    trials = sweep.study.results()
    if not trials:
        raise UserError("no trial of the sweep has ended yet", "wait for the other process that works on it")
    best = results.best(trials, sweep.metric)
    values = None if best is None else _difference(sweep, best)
    results.write(sweep.root, trials, sweep.metric, values, sweep.study.log_ranges)
    log.info("%s\n\nwritten to %s/", results.text(trials, sweep.metric), sweep.root)
    if values is None:
        reasons = [result.reason for result in trials if result.reason]
        raise UserError(
            f"no trial of the sweep was completed: {reasons[0] if reasons else 'all were stopped early'}",
            "search other values, or set sweep.pruner to none",
        )
    return results.markdown(trials, sweep.metric), values


def _train(sweep: Sweep, trial: Trial, tags: Mapping[str, str]) -> None:
    run_params = sweep.file.replaced({**sweep.overrides, **trial.values})
    folder = run_folder.isolated_folder(run_params)
    words = " ".join(params.as_override(key, value) for key, value in trial.values.items())
    log.info("trial %d of %d: %s", trial.number, sweep.study.trials, words)
    labels = {**tags, "sweep": sweep.root.name, "sweep.trial": str(trial.number)}
    began = time.perf_counter()
    state, reason = "complete", ""
    with (
        folder.lock("adaptformer sweep"),
        tracked(run_params, params.difference(sweep.file.params, run_params), folder, labels) as tracker,
    ):

        def on_epoch(row: history.EpochRow) -> None:
            tracker.log_epoch(row)
            trial.on_epoch(row)

        runner = Runner(run_params, folder, records.of_run(run_params, folder))
        # A fault of the data or the backbone is not a trial's failure: it ends the sweep, which a later call continues.
        for name in ("validate", "fetch"):
            runner.bring_up_to_date(name)
        try:
            if not runner.bring_up_to_date("train", on_epoch):
                for row in history.read(folder.history):
                    on_epoch(row)
            interruption.on_stop("stopped between two trials; the same command continues with the next")
        except Pruned:
            state, tracker.status = "stopped early", "KILLED"
        except UserError as error:
            state, reason, tracker.status = "failed", error.cause, "FAILED"
        trial.end(state, folder.root, round(time.perf_counter() - began, 3), reason)
    log.info("trial %d: %s%s", trial.number, state, f": {reason}" if reason else "")


def _difference(sweep: Sweep, best: Result) -> dict[str, Any]:
    run_params = sweep.file.replaced({**sweep.overrides, **best.values})
    return params.difference(sweep.file.params, run_params)
