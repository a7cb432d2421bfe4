"""A planted password, keys and tokens are in no file, no database and no line of output."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import crafted
import pytest
import registered
from clones import ROOT

from adaptformer.__main__ import main
from adaptformer.base.errors import UserError
from adaptformer.batch_prediction import job
from adaptformer.config import params
from adaptformer.data import storage
from adaptformer.registry import versions
from adaptformer.tracking import mlflow_errors, mlflow_store, run_files, uploads
from adaptformer.tracking.locations import mlflow_pages, tracking_place
from adaptformer.tracking.tracker import tracked

PASSWORD = "planted-in-the-address"
STORAGE = "planted-in-the-sweep"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "PLANTEDKEYID",
    "AWS_SECRET_ACCESS_KEY": "planted/secret+key",
    "AWS_SESSION_TOKEN": "planted-session-token",
    "MLFLOW_TRACKING_TOKEN": "planted-tracking-token",
    "HF_TOKEN": "planted-hub-token",
    "PREFECT_API_KEY": "planted-prefect-key",
}
PLANTED = (PASSWORD, STORAGE, *ENVIRONMENT.values())
pytestmark = pytest.mark.filterwarnings("ignore:Logger.*without a flow run id")


@pytest.fixture
def planted(monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def settings(folder):
    """The params of a checkout whose sweeps are kept in a database with a password."""
    text = Path("params.yaml").read_text()
    before = next(line for line in text.splitlines() if line.strip().startswith("storage:"))
    after = f"  storage: postgresql://ada:{STORAGE}@host/sweeps?sslkey=x&password={STORAGE}"
    return params.load(_written(Path("somewhere-else.yaml"), text.replace(before, after)))


def _written(path, text):
    path.write_text(text)
    return path


def leaks(*places: Path) -> list[str]:
    """Files that hold something planted, params.yaml of the test aside: it is the user's own."""
    found = []
    for place in places:
        for path in sorted(place.rglob("*")):
            if path.is_file() and path.name != "somewhere-else.yaml":
                found += [f"{path.name}: {secret}" for secret in PLANTED if secret.encode() in path.read_bytes()]
    return found


def test_a_run_that_is_tracked_and_registered_stores_no_secret(
    folder, settings, database, planted, monkeypatch, tmp_path, caplog
):
    local = f"sqlite:///{database}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ada:{PASSWORD}@127.0.0.1:9?token={PASSWORD}")
    monkeypatch.setattr(mlflow_store, "tracking_uri", lambda: local)  # where it connects: such a server, for this test
    monkeypatch.setattr(mlflow_store, "database", lambda: database)
    registered.write_model(folder.model, 0.1)
    registered.write_records(folder)
    with tracked(settings, {"sweep.storage": settings.sweep.storage}, folder, {"git.commit": "0" * 40}) as tracker:
        tracker.log_results(folder)
    made = versions.register(folder, "digits", tracker.run_id, tracker.lineage)
    assert made.tracking_uri == "http://127.0.0.1:9?token=***"
    assert versions.present(folder, "digits") == made
    assert run_files.is_tracked(folder)
    logged = mlflow_store.connect().get_run(tracker.run_id).data
    assert logged.params["sweep.storage"] == "postgresql://host/sweeps?sslkey=x&password=***"
    assert mlflow_pages() == tracking_place() == made.tracking_uri
    assert leaks(tmp_path) == []
    assert not [secret for secret in PLANTED if secret in caplog.text]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://bob:another@127.0.0.1:9?token=other")
    assert versions.present(folder, "digits") == made, "the same place, whoever asks"


def test_a_run_that_is_left_for_upload_stores_and_says_no_secret(
    folder, settings, planted, monkeypatch, tmp_path, caplog
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ada:{PASSWORD}@127.0.0.1:9")
    with tracked(settings, {"sweep.storage": settings.sweep.storage}, folder, {}) as tracker:
        tracker.log_epoch(crafted.ROW)
    assert uploads.waiting()
    assert "MLflow at http://127.0.0.1:9 does not run" in caplog.text
    assert leaks(tmp_path) == []
    assert not [secret for secret in PLANTED if secret in caplog.text]


@pytest.mark.parametrize("words", [[], ["--traceback"]])
def test_no_command_shows_the_password_of_the_address(folder, planted, tmp_path, words):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": f"http://ada:{PASSWORD}@127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-m", "adaptformer", *words, "history"], cwd=tmp_path, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "http://127.0.0.1:9 does not run" in done.stderr
    assert ("Traceback" in done.stderr) == bool(words)
    assert not [secret for secret in PLANTED if secret in done.stdout + done.stderr]


@pytest.mark.parametrize(
    "url",
    [f"s3://ada:{PASSWORD}@bucket/photos", f"https://host/photos.csv?X-Amz-Signature={PASSWORD}"],
)
def test_a_job_does_not_write_an_address_with_credentials_down(url, tmp_path):
    model = tmp_path / "model.onnx"
    model.write_bytes(b"x")
    for folder, source in ((str(tmp_path / "job"), url), (url, str(tmp_path))):
        with pytest.raises(UserError, match="would be written into files") as caught:
            job.prepare(folder, [source], model, 3, 10)
        assert PASSWORD not in f"{caught.value}"
    with pytest.raises(UserError, match="would be written into files"):
        storage.resolve("list.csv", url)
    assert leaks(tmp_path) == []


def test_params_are_shown_without_the_password_of_the_sweep_s_database(folder, capsys):
    path = Path("params.yaml")
    before = next(line for line in path.read_text().splitlines() if line.strip().startswith("storage:"))
    written = path.read_text().replace(before, f"  storage: postgresql://ada:{STORAGE}@host/sweeps")
    path.write_text(written)
    for words in (["params"], ["params", "--markdown"], ["params", "training.epochs=1"]):
        assert main(words) == 0
        shown = capsys.readouterr().out
        assert "postgresql://host/sweeps" in shown
        assert STORAGE not in shown
    assert path.read_text() == written


def test_an_override_with_credentials_is_refused(folder):
    with pytest.raises(UserError, match=r"the override sweep\.storage holds a password") as caught:
        params.load(overrides={"sweep.storage": f"postgresql://ada:{PASSWORD}@host/x"})
    assert PASSWORD not in f"{caught.value}"


def test_the_words_of_a_library_are_shown_without_secrets(planted):
    error = RuntimeError(f"Max retries: http://ada:{PASSWORD}@host/api?sig={PASSWORD} with planted/secret+key")
    assert mlflow_errors.one_line(error) == "Max retries: http://host/api?sig=*** with ***"


def test_a_description_is_written_as_it_is_sent(folder, settings):
    described = uploads.mlflow_run.describe("x", settings, {}, folder)
    assert STORAGE not in f"{dataclasses.asdict(described)}"
