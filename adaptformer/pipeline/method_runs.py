"""The runs of a comparison: resolved from methods and seeds, brought up to date one by one, set side by side.

A method is a text of presets and single values, "adaptformer-4 adapter.scale=0.1". Each run has a folder of its own,
where finished stages are not repeated.
"""

from __future__ import annotations

import logging
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptformer import presets
from adaptformer.base import csv_file, files, interruption
from adaptformer.base.errors import UserError
from adaptformer.config import params, run_folder
from adaptformer.config.params import Params, ParamsFile
from adaptformer.config.run_folder import RunFolder
from adaptformer.evaluation import comparison, slices
from adaptformer.evaluation.comparison import Trained
from adaptformer.pipeline import adapter_metadata
from adaptformer.pipeline.stage_runner import read_timing
from adaptformer.registry import result_check
from adaptformer.tracking import dvc_repository, run_files
from adaptformer.tracking.tracker import tracked

log = logging.getLogger("adaptformer")

_ERROR = re.compile(r"error: (?P<cause>.+)\n  fix: (?P<remedy>.+)")


@dataclass(frozen=True)
class MethodRun:
    """A method with a seed: their params, the values in which these differ from params.yaml, and the run's folder."""

    method: str
    seed: int
    params: Params
    changed: Mapping[str, Any]
    folder: RunFolder


def resolved(file: ParamsFile, method: str, seed: int, overrides: Mapping[str, object]) -> MethodRun:
    """Return the run of a method with a seed. Raises UserError for a preset or a key that does not exist."""
    try:
        words = shlex.split(method)
    except ValueError as error:
        raise UserError(
            f"the method {method} cannot be read: {error}", "quote as in a shell, each word apart"
        ) from error
    own = params.parse_overrides([word for word in words if "=" in word])
    if shared := [key for key in own if key.startswith("data.") or key == "training.seed"]:
        raise UserError(
            f"the method {method} sets {shared[0]}, which all methods share", "give it for all, or as a seed"
        )
    named = presets.overlay([word for word in words if "=" not in word])
    run_params = file.replaced({**named, **overrides, **own, "training.seed": seed})
    return MethodRun(
        method, seed, run_params, params.difference(file.params, run_params), run_folder.isolated_folder(run_params)
    )


STOPPED = {128 + number for number in interruption.SIGNALS}
"""Exit codes of a process that was asked to stop, but not by this process."""


def bring_up_to_date(run: MethodRun) -> None:
    """Run the stages of a run that are not current, in a separate process, so that its peak memory can be measured.

    That process, `adaptformer run --stages-only`, locks the folder itself: if the present process is killed, the other
    one continues to its end, and no further process can write there until then. Its log lines are logged here. Raises
    the UserError that the process prints, a UserError if it is killed, and RuntimeError if it fails in any other way.
    """
    overrides = [params.as_override(key, value) for key, value in run.changed.items()]
    command = [sys.executable, "-m", "adaptformer", "run", "--stages-only", "--own-folder", *overrides]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True, errors="replace",
    ) as process:  # fmt: skip
        try:
            printed_last = _followed(process)
        finally:  # also when this process is asked to stop
            process.terminate()
    if process.returncode < 0 or process.returncode in STOPPED:
        raise UserError(
            f"the process that ran {run.folder.root}/ was killed, perhaps because memory ran out",
            "run the same command again: it resumes after the last complete epoch; a smaller batch needs less",
        )
    if error := _ERROR.fullmatch("\n".join(printed_last)):
        raise UserError(error["cause"], error["remedy"])
    for line in printed_last:
        log.info("%s", line)
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}; its lines above say more")


def _followed(process: subprocess.Popen[str]) -> list[str]:
    """Log the process's lines until it ends, in this thread, which Prefect attributes to the run.

    Lines from the first one that may belong to the final error are returned instead.
    """
    assert process.stderr is not None  # noqa: S101
    printed_last: list[str] = []
    for line in process.stderr:
        text = line.rstrip("\n")
        if printed_last or text.startswith("error: "):
            printed_last.append(text)
        else:
            log.info("%s", text)
    process.wait()
    return printed_last


def track(run: MethodRun, tags: Mapping[str, str]) -> Trained:
    """Track a complete run with these tags, unless it is tracked, and return its result."""
    with run.folder.lock("adaptformer compare"):
        if not run_files.is_tracked(run.folder):
            labels = {**tags, "comparison": run.method}
            name = f"{run.method}, seed {run.seed}"
            with tracked(run.params, run.changed, run.folder, labels, name) as tracker:
                tracker.log_results(run.folder)
        return _result(run)


def _complete(run: MethodRun) -> Trained:
    bring_up_to_date(run)
    return track(run, {})


def compare(
    file: ParamsFile,
    methods: Sequence[str] | None,
    seeds: Sequence[int] | None,
    overrides: Mapping[str, object] | None,
    complete: Callable[[MethodRun], Trained] = _complete,
) -> tuple[str, Path]:
    """Bring the run of every method with every seed up to date; return the table in Markdown and its folder.

    `overrides` by dotted key hold for all methods, but a method's own values take precedence. An argument that is None
    is taken from section `comparison` of the file. Raises UserError before anything runs if a method is not valid.
    """
    settings = file.params.comparison
    shared = {**_shared(file), **(overrides or {})}
    runs = [
        resolved(file, method, seed, shared)
        for method in methods or settings.methods
        for seed in seeds or settings.seeds
    ]
    dvc_repository.check_data()
    results = []
    for number, run in enumerate(runs, start=1):
        log.info("%d of %d: %s, seed %d", number, len(runs), run.method, run.seed)
        interruption.on_stop(f"stopped in run {number} of {len(runs)}; the same command continues there")
        file.require_unchanged()  # the run's process reads it
        results.append(complete(run))
    compared = comparison.rows(results)
    root = _write(compared, runs)
    log.info("%s\n\nwritten to %s/", comparison.text(compared), root)
    return comparison.markdown(compared), root


def _shared(file: ParamsFile) -> dict[str, object]:
    """Return the values of comparison.overrides: those that it gives, and the file's own for a key without a value."""
    own, shared = params.flat(file.content), dict[str, object]()
    for entry in file.params.comparison.overrides:
        # A key that does not exist is refused by its name when a method is resolved.
        shared |= params.parse_overrides([entry]) if "=" in entry else {entry: own.get(entry)}
    return shared


def _result(run: MethodRun) -> Trained:
    """Read the row of a complete run from its files. Raises UserError if they do not belong to one model."""
    result_check.require(run.folder)
    predictions = csv_file.read(run.folder.predictions)
    timing = read_timing(run.folder, "train")
    return Trained(
        method=run.method,
        seed=run.seed,
        images=tuple(predictions["sha256"] + " " + predictions["path"]),
        right=(predictions["label"] == predictions["predicted"]).to_numpy(),
        trained=adapter_metadata.card(run.folder.adapter)["trained"],
        seconds=timing["training_seconds"],
        memory_mb=timing["peak_memory_mb"],
        adapter_bytes=run.folder.adapter.stat().st_size,
        groups=slices.groups(predictions),
        features_kept=bool(timing.get("features_from_earlier_run")),
    )


def _write(compared: Sequence[comparison.Row], runs: Sequence[MethodRun]) -> Path:
    """Write table, numbers and picture into a folder whose name is a hash of the runs, and return it."""
    names = [run.folder.root.name for run in runs]
    root = run_folder.DEFAULT / "comparisons" / files.sha256_text(files.canonical_json(names))[:12]
    files.write_text(root / "comparison.md", comparison.markdown(compared))
    files.write_text(root / "comparison.csv", comparison.csv(compared))
    comparison.draw(root / "comparison.png", compared)
    return root
