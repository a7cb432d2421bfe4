"""The tracker of a flow run: it logs to MLflow during the run, and keeps for a later upload what could not be sent.

Tracking that fails never stops a run: the first failure gives one warning, and the run continues.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from adaptformer.base import files
from adaptformer.base.errors import UserError, without_credentials
from adaptformer.config.params import Params
from adaptformer.config.run_folder import RunFolder
from adaptformer.tracking import dvc_repository, mlflow_errors, mlflow_run, mlflow_store, run_files, run_names, uploads
from adaptformer.tracking.git import git_tags
from adaptformer.training.history import EpochRow

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

logger = logging.getLogger("adaptformer.tracking")


class Tracker:
    """One MLflow run, created when something is first logged, so that a flow run with nothing to do leaves no run.

    If a run was stopped, the next one in its folder continues it: they are one run in MLflow, FINISHED at its end. The
    caller holds the lock of `folder`. `run_id` is the run's id in MLflow, None as long as there is none. `status` is
    the run's final status if nothing is raised.
    """

    def __init__(self, name: str, params: Params, lineage: Mapping[str, str], folder: RunFolder) -> None:
        self.lineage = dict(lineage)
        self.run_id: str | None = None
        self.status = "FINISHED"
        self._folder = folder
        self._run = mlflow_run.describe(name, params, lineage, folder)
        self._epochs: list[tuple[int, int]] = []
        self._logged_steps: set[int] = set()
        self._started = False
        self._broken = False
        self._warned: set[str] = set()
        self._client: MlflowClient | None = None

    def upload_waiting(self) -> None:
        """Upload the runs that wait for it; if that fails, warn and leave them waiting."""
        if not uploads.waiting():
            return
        try:
            client = self._connected()
        except Exception as error:  # whatever MLflow, its database or the network raise
            self._stop(error)
            return
        try:
            for uploaded in uploads.upload_waiting(client, self._folder):
                logger.info("%s", uploaded.sentence)
        except Exception as error:
            self._warn("Runs that wait for upload were not uploaded", error)

    def log_epoch(self, row: EpochRow) -> None:
        """Log the numbers of an epoch; an epoch that is repeated after a resumption is logged once."""
        if (row.phase, row.epoch) in self._epochs:
            return
        self._epochs.append((row.phase, row.epoch))
        step = len(self._epochs)

        def send(client: MlflowClient, run_id: str) -> None:
            if step not in self._logged_steps:  # logged by the run that this one continues
                mlflow_run.log_epoch(client, run_id, row, step)

        self._attempt(send, again=False)

    def log_results(self, folder: RunFolder) -> None:
        """Log the files of the run folder and the missing epochs, unless these results are logged already.

        This tries again even if an earlier request failed.
        """
        try:
            results = run_files.sha256(folder)
        except OSError as error:  # another process has removed a file
            self._warn("The results are not logged", error)
            return
        if self._started or not self._is_known(folder, results):

            def send(client: MlflowClient, run_id: str) -> None:
                mlflow_run.log_results(client, run_id, folder)
                run_files.remember(folder, run_id, finished=False)

            self._run.results = results
            self._attempt(send, again=True)

    def finish(self, status: str) -> None:
        """Close the run, if there is one, as FINISHED, FAILED or KILLED."""
        if self._started:
            self._run.status, self._run.end = status, mlflow_run.now()

            def send(client: MlflowClient, run_id: str) -> None:
                client.set_terminated(run_id, status, self._run.end)
                if status == "FINISHED" and run_files.is_unfinished(self._folder):
                    run_files.remember(self._folder, run_id, finished=True)

            self._attempt(send, again=False)

    def _is_known(self, folder: RunFolder, results: str) -> bool:
        """Return whether these results are logged or wait for upload; this tracker then continues that run."""
        run_id = run_files.run_of(folder)
        if run_id is None:
            return uploads.waits(folder, results)
        try:
            reopened = mlflow_run.reopen(self._connected(), run_id)
            if reopened is None:
                return False
            self._continue(reopened)
            self._run.results, self._started = results, True  # so that it gets this run's final status
        except Exception as error:
            self._stop(error)
        return True

    def _attempt(self, send: Callable[[MlflowClient, str], None], *, again: bool) -> None:
        """Call `send`, after a failure only if `again`; if it is not called or fails, keep the run for upload."""
        self._started = True
        if again or not self._broken:
            try:
                send(*self._mlflow_run())
            except Exception as error:
                self._stop(error)
            else:
                self._broken = False
                uploads.discard(self._folder, self._run)
                return
        try:
            uploads.keep(self._folder, self._run)
        except UserError as error:
            self._warn("What MLflow misses cannot be uploaded later either", error)

    def _mlflow_run(self) -> tuple[MlflowClient, str]:
        client = self._connected()
        if self.run_id is None:
            if (earlier := mlflow_run.stopped(client, self._run)) and mlflow_run.reopen(client, earlier.info.run_id):
                self._logged_steps = mlflow_run.logged_steps(client, earlier.info.run_id)
                self._continue(earlier)
            mlflow_run.mark_crashed(client, self._run)
            self.run_id = mlflow_run.start(client, self._run)
        return client, self.run_id

    def _continue(self, earlier: Run) -> None:
        """Make this run the continuation of one that MLflow has."""
        self.run_id = str(earlier.info.run_id)
        self._run.id = earlier.data.tags.get(mlflow_run.ID_TAG, self._run.id)
        self._run.start = int(earlier.info.start_time)

    def _connected(self) -> MlflowClient:
        if self._client is None:
            self._client = mlflow_store.connect()
        return self._client

    def _stop(self, error: Exception) -> None:
        self._broken = True
        self._client = None
        self._warn("Tracking stopped, the run continues; the next run uploads what MLflow misses", error)

    def _warn(self, what: str, error: Exception) -> None:
        """Warn of a failure, once for each kind."""
        if what not in self._warned:
            self._warned.add(what)
            explained = mlflow_errors.explained(error, "the next run uploads the rest")
            cause = f"{type(error).__name__}: {mlflow_errors.one_line(error)}" if explained is None else explained.cause
            logger.warning("%s: %s%s", what, cause, "" if explained is None else f" (fix: {explained.remedy})")


@contextlib.contextmanager
def tracked(
    params: Params, changed: Mapping[str, Any], folder: RunFolder, tags: Mapping[str, str], label: str = ""
) -> Iterator[Tracker]:
    """Yield the tracker of a run in `folder`, and close its MLflow run when the body ends: finished, failed or killed.

    `changed` holds the values, by dotted key, in which `params` differ from params.yaml. The `tags` that are not empty
    are added to the lineage. `label` is part of the run's name, in place of the values that differ from the commit's.
    """
    overrides = without_credentials(files.canonical_json(dict(changed))) if changed else ""
    lineage = {
        mlflow_run.DATA_TAG: dvc_repository.data_digest() or "none",
        **git_tags(),
        **tags,
        "overrides": overrides,
    }
    known = {key: value for key, value in lineage.items() if value}
    tracker = Tracker(run_names.of(params, label), params, known, folder)
    tracker.upload_waiting()
    try:
        yield tracker
    except Exception:
        tracker.finish("FAILED")
        raise
    except BaseException:
        tracker.finish("KILLED")
        raise
    tracker.finish(tracker.status)
