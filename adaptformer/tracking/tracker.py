"""The tracker of a flow run: tells MLflow what happens as it happens, and keeps what cannot be told.

Tracking that fails never stops a training: the first failure is told once, and the run goes on without.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from adaptformer.errors import UserError
from adaptformer.params import Params
from adaptformer.run_folder import RunFolder
from adaptformer.tracking import mlflow_store, outbox, record, run_files
from adaptformer.tracking.run_files import Artifacts
from adaptformer.tuning.history import EpochRow

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger("adaptformer.tracking")


class Tracker:
    """One MLflow run, made when something is first logged, so that a flow run with nothing to do leaves none."""

    def __init__(self, name: str, params: Params, lineage: Mapping[str, str], folder: RunFolder) -> None:
        self.lineage = dict(lineage)
        self.run_id: str | None = None
        self.broken = False
        self._record = record.begin(name, params, lineage, folder)
        self._artifacts: Artifacts = []
        self._slot = outbox.Slot(self._record)
        self._sent = 0
        self._told: set[str] = set()
        self._client: MlflowClient | None = None

    def send_kept(self) -> None:
        """Send what earlier runs had to keep; where that fails, say so and leave it there."""
        if outbox.is_empty():
            return
        try:
            client = self._connected()
        except Exception as error:  # whatever MLflow, its database or the network raise
            self._stop(error)
            return
        try:
            for sent in outbox.send_all(client):
                logger.info("MLflow has the run %s now, which an earlier run had to keep", sent.name)
        except Exception as error:
            self._warn("What earlier runs had to keep was not sent", error)

    def log_epoch(self, row: EpochRow) -> None:
        """Log an epoch's numbers as one batch; an epoch told again after a resumption is logged once."""
        if self._record.add_epoch(row):
            self._attempt(self._send_points)

    def log_results(self, folder: RunFolder) -> None:
        """Log what the run folder holds: the history unless it was logged epoch by epoch, metrics, times, files.

        A tracker that is broken tries once more, and then sends all that it had to keep.
        """
        try:
            if not self._record.points and self._is_known(folder):
                return
            self._artifacts = self._record.add_results(folder)
        except (OSError, ValueError, KeyError, UserError) as error:  # another process removed a file
            self._stop(error)
        self._attempt(lambda client, run_id: self._send_results(client, run_id, folder), again=True)

    def finish(self, status: str) -> None:
        """Close the run, if there is one, as FINISHED, FAILED or KILLED."""
        if self._record.points:
            self._record.close(status)
            self._attempt(lambda client, run_id: client.set_terminated(run_id, status, self._record.end))
            self._slot.release()

    def _is_known(self, folder: RunFolder) -> bool:
        """Say whether these results were logged before, or kept; then this run is that one, and makes none."""
        run_id = run_files.run_of(folder)
        if run_id is None:
            return outbox.holds(run_files.sha256(folder))
        try:
            if not mlflow_store.go_on(self._connected(), run_id):
                return False
            self.run_id = run_id
        except Exception as error:
            self._stop(error)
        return True

    def _attempt(self, send: Callable[[MlflowClient, str], None], *, again: bool = False) -> None:
        if again or not self.broken:
            try:
                send(*self._run())
            except Exception as error:
                self._stop(error)
            else:
                self.broken = False
                self._slot.discard()
                return
        try:
            self._slot.keep(self._record, self._artifacts)
        except (OSError, UserError) as error:
            self._warn("What MLflow misses cannot be kept either", error)

    def _send_points(self, client: MlflowClient, run_id: str) -> None:
        mlflow_store.log_points(client, run_id, self._record.points[self._sent :])
        self._sent = len(self._record.points)

    def _send_results(self, client: MlflowClient, run_id: str, folder: RunFolder) -> None:
        self._send_points(client, run_id)
        mlflow_store.log_files(client, run_id, self._record.tags, self._artifacts)
        if self._record.results:
            run_files.remember(folder, run_id)

    def _run(self) -> tuple[MlflowClient, str]:
        client = self._connected()
        if self.run_id is None:
            mlflow_store.bury_dead(client, self._record)
            self.run_id = mlflow_store.begin(client, self._record)
        return client, self.run_id

    def _connected(self) -> MlflowClient:
        if self._client is None:
            self._client = mlflow_store.connect()
        return self._client

    def _stop(self, error: Exception) -> None:
        self.broken = True
        self._client = None
        self._warn("Tracking stopped, the run goes on without; what MLflow misses is kept for the next run", error)

    def _warn(self, what: str, error: Exception) -> None:
        """Tell a failure, once each kind."""
        if what not in self._told:
            self._told.add(what)
            logger.warning("%s: %s: %s", what, type(error).__name__, " ".join(str(error).split())[:200])
