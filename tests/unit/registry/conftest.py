"""What tests of the registry share: MLflow on a database of one file's tests, and a champion there."""

from __future__ import annotations

import re
import shutil

import pytest
import registered

from adaptformer.tracking import mlflow_store


@pytest.fixture(scope="module")
def database(empty_database, tmp_path_factory):
    """One for all tests of a file: MLflow takes a second to open another one."""
    return shutil.copy2(empty_database, tmp_path_factory.mktemp("registry"))


@pytest.fixture
def client(database, monkeypatch, tmp_path):
    """MLflow on that database, in a folder of the test's own with params.yaml."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    shutil.copy2(registered.PARAMS, tmp_path)
    monkeypatch.chdir(tmp_path)
    return mlflow_store.connect()


@pytest.fixture
def own_client(empty_database, monkeypatch, tmp_path):
    """MLflow on a database of the test's own, in a folder without params.yaml."""
    path = tmp_path / "store/mlflow.db"
    path.parent.mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shutil.copy2(empty_database, path)}")
    monkeypatch.chdir(tmp_path)
    return mlflow_store.connect()


@pytest.fixture
def name(request):
    """A registered model of its own for each test."""
    return re.sub(r"\W", "-", request.node.name)[-60:].strip("-")


@pytest.fixture
def champion(client, name, tmp_path):
    """Version 1, in use: 60 of 300 test images wrong."""
    assert registered.register(tmp_path, name, registered.wrong(60)) == "1"
    assert registered.ask(name).promoted
    return name
