"""`make run`: the whole pipeline in this process, or at once the news that nothing has changed."""

from __future__ import annotations

import subprocess
import sys
import time

from adaptformer.data.sample import DVC_DIGEST
from adaptformer.errors import UserError
from adaptformer.params import Params, load
from adaptformer.presets import overlay
from adaptformer.run_folder import RunFolder, of
from flows.door import temporary_server
from flows.summary import Summary, text
from tasks import outbox, versioning
from tasks.checkout import tracking_uri
from tasks.registry import is_due, present


def run(presets: list[str], overrides: dict[str, object], register: bool | None) -> int:
    """Run the pipeline if anything has changed, show the summary, and return the exit code."""
    began = time.monotonic()
    params = load(overrides={**overlay(presets), **overrides})
    folder = of(load(), params)
    make_sample_if_wanted(folder)
    versioning.check_data()
    made = present(folder, params.registry.model)
    settled = made is not None and not is_due(made, params.registry.promotion)
    if not folder.overridden and settled and versioning.is_clean():
        print("Nothing has changed since the last run: data, params, code and results are what DVC recorded.\n")
        _send_kept()
        print(_shown(params, folder))
        return 0
    print("Starting the pipeline (a temporary Prefect server takes some seconds) ...", flush=True)
    summary = _train_here(presets, overrides, register)
    idle = "nothing, all is current" if folder.overridden else "nothing but the registration"
    ran = ", ".join(summary.ran) or idle
    print(f"\nDone in {time.monotonic() - began:.0f} s; ran {ran}.\n")
    print(text(summary, folder, tracking_uri()))
    return 0


def _send_kept() -> None:
    """Send what earlier runs had to keep, if there is anything: where nothing else is to do, this still is."""
    if outbox.is_empty():
        return
    from flows.backlog import sync

    try:
        sync()
    except UserError as error:
        print(f"warning: {error.cause}")


def make_sample_if_wanted(folder: RunFolder) -> None:
    """Write the sample data where data.dvc names it and there is no `data/` at all; a user's data is never touched."""
    if folder.data.exists() or folder.data.is_symlink() or versioning.data_digest() != DVC_DIGEST:
        return
    print("Writing the sample data set to data/ ...", flush=True)
    done = subprocess.run([sys.executable, "-m", "adaptformer", "data", "sample"], check=False)
    if done.returncode:
        raise UserError("the sample data set could not be written", "see the lines above")


def _shown(params: Params, folder: RunFolder) -> str:
    return text(Summary.of(folder, params, ()), folder, tracking_uri())


def _train_here(presets: list[str], overrides: dict[str, object], register: bool | None) -> Summary:
    with temporary_server("make-run"):
        from flows.train import train

        return train(presets, overrides, register)
