"""A flow in this process, on a temporary Prefect server; `make run`, which ends early when nothing has changed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from adaptformer.dataset_import.sample import DVC_DIGEST
from adaptformer.errors import UserError
from adaptformer.params import Params, load
from adaptformer.presets import overlay
from adaptformer.registry.versions import is_due, present
from adaptformer.run_folder import RunFolder, of
from adaptformer.tracking import dvc_repository, uploads
from adaptformer.tracking.locations import tracking_uri
from flows import ROOT
from flows.summary import Summary, text


def run(presets: list[str], overrides: dict[str, object], register: bool | None) -> int:
    """Run the pipeline if anything has changed, show the summary, and return the exit code."""
    began = time.monotonic()
    params = load(overrides={**overlay(presets), **overrides})
    folder = of(load(), params)
    make_sample_if_wanted(folder)
    dvc_repository.check_data()
    made = present(folder, params.registry.model)
    settled = made is not None and not is_due(made, params.registry.promotion)
    if not folder.overridden and settled and dvc_repository.is_clean():
        print("Nothing has changed since the last run: data, params, code and results are what DVC recorded.\n")
        _upload_waiting()
        print(_shown(params, folder))
        return 0
    print("Starting the pipeline (a temporary Prefect server takes some seconds) ...", flush=True)
    summary = _train_here(presets, overrides, register)
    idle = "nothing, all is current" if folder.overridden else "nothing but the registration"
    ran = ", ".join(summary.ran) or idle
    print(f"\nDone in {time.monotonic() - began:.0f} s; ran {ran}.\n")
    print(text(summary, folder, tracking_uri()))
    return 0


def _upload_waiting() -> None:
    """Upload runs that wait for it: there may be some where everything else is up to date."""
    if not uploads.waiting():
        return
    from flows.backlog import upload

    try:
        upload()
    except UserError as error:
        print(f"warning: {error.cause}")


def make_sample_if_wanted(folder: RunFolder) -> None:
    """Write the sample data where data.dvc names it and there is no `data/` at all; a user's data is never touched."""
    if folder.data.exists() or folder.data.is_symlink() or dvc_repository.data_digest() != DVC_DIGEST:
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


def opened(body: Callable[[], int]) -> int:
    """Run `body` in the checkout's root and return its exit code; of a UserError cause and remedy, and 1."""
    os.chdir(ROOT)
    try:
        return body()
    except UserError as error:
        print(f"error: {error.cause}\n  fix: {error.remedy}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on where it was", file=sys.stderr)
        return 130


@contextlib.contextmanager
def temporary_server(*tags: str) -> Iterator[None]:
    """Let flows that are called in the body use a server of this process, whose files lie inside the checkout.

    Import flows within the body only: Prefect reads its environment as it is imported.
    """
    os.environ.setdefault("PREFECT_HOME", str(ROOT / ".prefect"))
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    import prefect.main  # sets logging up as it is imported: before the console is made plain
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows import log_filter

    log_filter.plain_console()
    # Not PREFECT_API_URL= (empty): that counts as a server for Prefect's events, and task runs get lost.
    with temporary_settings(restore_defaults={PREFECT_API_URL}), prefect.tags("adaptformer", *tags):
        yield
