"""The flow `adaptformer/compare`: methods side by side on the same data and seeds."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path
from typing import Any

import pandas as pd
from prefect import Task, flow
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from adaptformer import files, params, presets, run_folder
from adaptformer.errors import UserError
from adaptformer.evaluation import comparison
from adaptformer.evaluation.comparison import Trained
from adaptformer.params import Params
from adaptformer.run_folder import RunFolder
from adaptformer.stage_runner import read_timing
from adaptformer.tracking import dvc_repository
from adaptformer.tracking.run_files import is_tracked
from flows import flow_run, log_filter
from flows.summary import adapter_card
from tasks import apart
from tasks.stages import slot

log_filter.install()
log = logging.getLogger("adaptformer")
HOLDER = "adaptformer/compare"


@flow(name="adaptformer", flow_run_name=flow_run.name)
def compare(
    methods: list[str] | None = None, seeds: list[int] | None = None, overrides: dict[str, Any] | None = None
) -> str:
    """Train every method with every seed on the present data and return the folder of the table and its picture.

    A method is a text of names of presets and single values, "adaptformer-4 adapter.scale=0.1"; `overrides` by dotted
    key hold for all of them, a method's own values above those. Without arguments, what `comparison` in params.yaml
    says. Each run has a folder of its own: what is done there is not done again.
    """
    settings = params.load().comparison
    overrides = {**params.parse_overrides(settings.values), **(overrides or {})}
    plan = [
        (method, seed, resolved(method, seed, overrides))
        for method in methods or settings.methods
        for seed in seeds or settings.seeds
    ]
    dvc_repository.check_data()
    results = []
    for number, (method, seed, wanted) in enumerate(plan, start=1):
        log.info("%d of %d: %s, seed %d", number, len(plan), method, seed)
        results.append(RUN(method, seed, wanted))
    compared = comparison.rows(results)
    root = write(compared, [wanted for _, _, wanted in plan])
    log.info("%s\n\nwritten to %s/", comparison.text(compared), root)
    create_markdown_artifact(key="comparison", markdown=comparison.markdown(compared), description="Methods compared")
    return str(root)


def resolved(method: str, seed: int, overrides: dict[str, Any]) -> Params:
    """Return the params of a method with a seed. Raises UserError for a preset or a key that there is not."""
    try:
        words = shlex.split(method)
    except ValueError as error:
        raise UserError(
            f"the method {method} cannot be read: {error}", "quote as in a shell, each word apart"
        ) from error
    own = params.parse_overrides([word for word in words if "=" in word])
    if apart := [key for key in own if key.startswith("data.") or key == "tuning.seed"]:
        raise UserError(
            f"the method {method} sets {apart[0]}, which all methods share", "give it for all, or as a seed"
        )
    named = presets.overlay([word for word in words if "=" not in word])
    return params.load(overrides={**named, **overrides, **own, "tuning.seed": seed})


def _run(method: str, seed: int, wanted: Params) -> Trained:
    """Bring one run up to date in a process of its own, track it, and return what the table needs."""
    folder = run_folder.apart(wanted)
    with slot("gpu"):
        ran = apart.complete(wanted, folder, HOLDER)
    if ran or not is_tracked(folder):
        with folder.lock(HOLDER), flow_run.tracked(wanted, folder, comparison=method) as tracker:
            tracker.log_results(folder)
    return read(method, seed, folder)


def read(method: str, seed: int, folder: RunFolder) -> Trained:
    """Read from the files of a complete run what the table says of it."""
    predictions = pd.read_csv(folder.predictions, dtype="str", keep_default_na=False)
    timing = read_timing(folder, "train")
    return Trained(
        method=method,
        seed=seed,
        images=tuple(predictions["sha256"] + " " + predictions["path"]),
        right=(predictions["label"] == predictions["predicted"]).to_numpy(),
        trained=adapter_card(folder.adapter)["trained"],
        seconds=timing["training_seconds"],
        memory_mb=timing["peak_memory_mb"],
        adapter_bytes=folder.adapter.stat().st_size,
    )


def write(compared: list[comparison.Row], wanted: list[Params]) -> Path:
    """Write table, numbers and picture into a folder that is named by the runs, and return it."""
    names = [run_folder.apart(one).root.name for one in wanted]
    root = run_folder.DEFAULT / "comparisons" / files.sha256_text(files.canonical_json(names))[:12]
    files.write_text(root / "comparison.md", comparison.markdown(compared))
    files.write_text(root / "comparison.csv", comparison.csv(compared))
    comparison.draw(root / "comparison.png", compared)
    return root


RUN = Task(
    _run,
    name="compare",
    task_run_name="{method}, seed {seed}",
    description="Train one method with one seed.",
    cache_policy=NO_CACHE,
)
