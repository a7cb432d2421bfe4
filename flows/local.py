"""A flow in this process, on a temporary Prefect server; `make run`, which ends early when nothing has changed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from adaptformer import presets as all_presets
from adaptformer.base.environment import NO_TELEMETRY
from adaptformer.base.errors import UserError
from adaptformer.config import run_folder
from adaptformer.config.run_folder import RunFolder
from adaptformer.curation.importing.sample import DVC_DIGEST
from adaptformer.pipeline.run import Request, show
from adaptformer.pipeline.summary import Summary
from adaptformer.tracking import dvc_repository, mlflow_store
from adaptformer.tracking.locations import database
from flows import ROOT, prefect_database, temporary_server

FOREIGN = ("PREFECT_API_", "PREFECT_SERVER_", "PREFECT_CLOUD_", "PREFECT_PROFILE")
"""Prefixes of variables that name another server, its database, keys or profile: a temporary server has its own."""


def run(presets: list[str], overrides: dict[str, object], register: bool | None) -> None:
    """Run the pipeline if anything has changed, and show the summary."""
    file, params = all_presets.resolve(presets, overrides)
    request = Request(file, params, run_folder.folder_for(file.params, params), presets, register)
    make_sample_if_missing(request.folder)
    show(request, lambda: _train_here(request, overrides))


def make_sample_if_missing(folder: RunFolder) -> None:
    """Write the sample data if data.dvc names it and there is no `data/` at all; a user's data are never touched."""
    if folder.data.exists() or folder.data.is_symlink() or dvc_repository.data_digest() != DVC_DIGEST:
        return
    print("Writing the sample data set to data/ ...", flush=True)
    # The command has a session of its own: Ctrl-C only reaches this process, which ends the other one and prints once.
    command = [sys.executable, "-m", "adaptformer", "data", "sample"]
    done = subprocess.run(command, check=False, start_new_session=True)
    if done.returncode:
        raise UserError("the sample data set could not be written", "see the lines above")


def _train_here(request: Request, overrides: dict[str, object]) -> Summary:
    print("Starting the pipeline (a temporary Prefect server takes some seconds) ...", flush=True)
    with on_temporary_server("make-run", meanwhile=_load):
        from prefect import flow

        from flows.train import update

        # Like the flow adaptformer/train, but with params that are read already; Prefect shows the arguments.
        @flow(name="adaptformer")
        def train(presets: list[str], overrides: dict[str, object], register: bool | None) -> Summary:  # noqa: ARG001
            return update(request)

        return train(list(request.presets), overrides, request.register)


def _load() -> None:
    """Import the parts of a run, and connect to MLflow's local database, which the first run creates."""
    import adaptformer.backbones.fetching  # noqa: F401 - with torch and timm
    import flows.train  # noqa: F401

    if database() is None:
        return
    with contextlib.suppress(Exception):  # the run connects again, and reports what fails
        mlflow_store.connect()


@contextlib.contextmanager
def on_temporary_server(*tags: str, meanwhile: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Make flows that are called in the body use a server of this process, whose files are inside the checkout.

    `meanwhile` is called while the server starts, which takes one core many seconds. Import flows only there or within
    the body: Prefect reads its environment when it is imported.
    """
    home = os.environ["PREFECT_HOME"] = str(ROOT / ".prefect")  # as in the Makefile, even if another project has set it
    for name in [name for name in os.environ if name.startswith(FOREIGN) and name not in NO_TELEMETRY]:
        del os.environ[name]
    log = Path(home) / "logs" / "temporary-server.log"
    own = {"PREFECT_API_DATABASE_CONNECTION_URL": prefect_database(home)}
    api = temporary_server.start(log, {**os.environ, **own})  # first, because it starts while this process imports
    import prefect.main  # its import sets up logging, so it comes before `plain_console`
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows import log_filter
    from tasks.limits import TEMPORARY

    os.environ[TEMPORARY] = "1"
    log_filter.plain_console()
    meanwhile()
    temporary_server.wait_for(api, log)
    with temporary_settings(updates={PREFECT_API_URL: api}), prefect.tags("adaptformer", *tags):
        try:
            yield
        except Exception as error:
            if type(error).__module__.partition(".")[0] not in {"prefect", "httpx", "httpcore"}:
                raise
            raise temporary_server.explained(error, log) from error
