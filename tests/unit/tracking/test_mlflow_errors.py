"""One remedy for each cause of a failure of MLflow, with the library's own words as the second half."""

from __future__ import annotations

import re

import pytest
from clones import ROOT

from adaptformer.base.errors import UserError
from adaptformer.tracking import mlflow_errors, mlflow_store
from adaptformer.tracking.locations import tracking_uri

ASSURANCE = "nothing was changed"


class MlflowError(Exception):
    """Stands in for MLflow's own exception, of which importing takes seconds."""


MlflowError.__module__ = "mlflow.exceptions"


@pytest.fixture(autouse=True)
def checkout(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ada:secret@tracking:5000")


CASES = {
    "The filesystem tracking backend (e.g., './mlruns') is in maintenance mode": ("is a folder", "to a database"),
    "Model registry functionality is unavailable; got unsupported URI 'ftp://x'": ("is not an address", "http:// or"),
    "Max retries exceeded (NewConnectionError: [Errno 111] Connection refused)": ("does not run", "start the server"),
    "Failed to resolve 'tracking' ([Errno -2] Name or service not known)": ("name cannot be resolved", "name service"),
    "SSLError(SSLCertVerificationError: CERTIFICATE_VERIFY_FAILED)": ("not trusted", "SERVER_CERT_PATH"),
    "Read timed out. (read timeout=10)": ("does not answer in time", "MLFLOW_HTTP_REQUEST_TIMEOUT"),
    "API request failed with error code 401 != 200": ("refuses this user", "MLFLOW_TRACKING_USERNAME"),
    "API request failed with error code 403: Invalid Host header": ("refuses the request", "--allowed-hosts"),
    "Detected out-of-date database schema (found version 1)": ("another version of MLflow", "mlflow db upgrade"),
    "(sqlite3.DatabaseError) file is not a database": ("damaged database", "keep the damaged file"),
    "(sqlite3.OperationalError) database is locked": ("keeps busy", "wait until that process ends"),
    "(sqlite3.OperationalError) database or disk is full": ("No space left on device", "free space"),
    "(sqlite3.OperationalError) attempt to write a readonly database": ("Read-only", "its file system is read-only"),
    "Unable to locate credentials": ("does not accept your credentials", "AWS_ACCESS_KEY_ID"),
    'Could not connect to the endpoint URL: "http://store:9000/"': ("store that does not answer", "AWS_ENDPOINT_URL"),
    "Response is not a valid JSON": ("is not MLflow", "correct MLFLOW_TRACKING_URI"),
    "something that nobody has met": ("fails: MlflowError", "check that it answers there"),
}


@pytest.mark.parametrize("words", CASES)
def test_each_cause_has_its_own_remedy(words):
    told = mlflow_errors.explained(MlflowError(words), ASSURANCE)
    what, remedy = CASES[words]
    assert what in told.cause
    assert remedy in told.remedy
    assert told.remedy.endswith(f"then run the same command again; {ASSURANCE}")
    assert "secret" not in str(told)
    if "cannot write" not in told.cause:
        assert told.cause.startswith("MLflow at http://tracking:5000 ")
        assert told.cause.endswith(words), "the library's own words are the second half"


def test_a_full_database_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    told = mlflow_errors.explained(MlflowError("(sqlite3.OperationalError) database or disk is full"), ASSURANCE)
    assert told.cause == f"cannot write {tmp_path}/mlflow.db: No space left on device"
    error = OSError(28, "No space left on device", "artifacts/model.onnx")
    assert mlflow_errors.explained(error, ASSURANCE).cause.startswith("cannot write artifacts/model.onnx: ")


def test_no_two_causes_share_a_remedy():
    remedies = [cause.remedy for cause in mlflow_errors._CAUSES]
    assert len(set(remedies)) == len(remedies)


def test_a_package_that_is_not_installed_is_named():
    error = MlflowError("x")
    error.__cause__ = ModuleNotFoundError("No module named 'pymysql'", name="pymysql")
    told = mlflow_errors.explained(error, ASSURANCE)
    assert told.cause.endswith("needs a package that is not installed: pymysql")
    assert told.remedy.startswith("`pip install pymysql`")


def test_a_defect_of_this_project_is_no_failure_of_mlflow():
    assert mlflow_errors.explained(KeyError("x"), ASSURANCE) is None
    with pytest.raises(KeyError), mlflow_store.user_errors(ASSURANCE):
        raise KeyError("x")
    known = UserError("a", "b")
    assert mlflow_errors.explained(known, ASSURANCE) is known


def test_long_words_are_cut_only_where_they_hold_nothing_more():
    sentence = "x" * 400 + " Set MLFLOW_ALLOW_FILE_STORE=true to opt out."
    assert mlflow_errors.one_line(RuntimeError(sentence)) == sentence
    assert mlflow_errors.one_line(RuntimeError("fails [SQL: INSERT INTO x] [parameters: ()]")) == "fails"
    assert mlflow_errors.one_line(RuntimeError("x" * 5000)).endswith("x…")


@pytest.mark.parametrize("uri", ["localhost:5000", "127.0.0.1:5000/", "tracking.example.org:80"])
def test_an_address_without_http_is_refused(monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError, match=re.escape(f"MLFLOW_TRACKING_URI={uri} lacks http://")) as caught:
        tracking_uri()
    assert caught.value.remedy == f"set it to http://{uri}"


def test_a_deleted_experiment_says_how_it_comes_back(client):
    known = mlflow_store.experiment_id(client, "pets")
    client.delete_experiment(known)
    with pytest.raises(UserError, match="the MLflow experiment pets was deleted") as caught:
        mlflow_store.experiment_id(client, "pets")
    assert f"mlflow experiments restore --experiment-id {known}" in caught.value.remedy
