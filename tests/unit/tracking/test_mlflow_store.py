"""The connection to MLflow's local database."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from adaptformer.tracking import mlflow_store
from adaptformer.tracking.locations import DATABASE


def test_a_new_database_is_created_without_a_line_of_mlflow(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").touch()
    code = "from adaptformer.tracking import mlflow_store; mlflow_store.connect()"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
    assert (tmp_path / DATABASE).is_file()


def test_only_one_process_at_a_time_creates_a_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    (tmp_path / "params.yaml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    locked: list[bool] = []

    def made(*_uris: str) -> None:
        locked.append(not _is_free(tmp_path / f"{DATABASE}.lock"))
        raise ConnectionError

    monkeypatch.setattr(mlflow, "MlflowClient", made)
    with pytest.raises(ConnectionError):
        mlflow_store.connect()
    assert locked == [True]


def _is_free(path: Path) -> bool:
    lock = FileLock(path, timeout=0, is_singleton=False)
    try:
        with lock:
            return True
    except TimeoutError:
        return False
