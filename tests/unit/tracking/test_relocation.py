"""Checkouts that were moved, copied or mounted read-only elsewhere, and names with letters that mean something."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import clones
import pytest
import registered
from crafted import ROW

from adaptformer.base.errors import UserError
from adaptformer.config.params import load
from adaptformer.config.run_folder import RunFolder
from adaptformer.registry import lineage, model_choice, promotion, versions
from adaptformer.tracking import mlflow_store, relocation
from adaptformer.tracking.locations import tracking_place
from adaptformer.tracking.tracker import Tracker

STRANGE = 'it\'s 100%25 of köpie #1? & "more"'


@pytest.fixture(scope="module")
def made(empty_database, tmp_path_factory):
    """A checkout with a registered champion, to be copied: making one takes seconds."""
    root = tmp_path_factory.mktemp("made")
    shutil.copy2(clones.ROOT / "params.yaml", root)
    shutil.copy2(empty_database, root / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(root)
        registered.register(RunFolder().root, "pets", set())
        assert registered.ask("pets").promoted
    return root


@pytest.fixture
def checkout(made, tmp_path, monkeypatch):
    """A checkout with a registered champion, in a folder of its own, which its database names."""
    root = shutil.copytree(made, tmp_path / "my checkout")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(root)
    relocation.follow(root / "mlflow.db")
    return root


def listing(root):
    return {path.relative_to(root): path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}


def champion(into):
    into.mkdir()
    client = mlflow_store.connect()
    origin = lineage.origin(client, "pets", "champion")
    assert dict(origin.facts)["images"] == f"30 train, 0 validation, {registered.TESTS} test"
    chosen = model_choice.choose("models:/pets@champion", RunFolder())
    return model_choice.file_of(chosen, RunFolder(into / "none"), into)


def test_a_strange_name_is_looked_for_as_it_is(checkout):
    assert tracking_place() == "sqlite:///mlflow.db"
    client = mlflow_store.connect()
    assert mlflow_store.find_run(client, "test", "mlflow.runName", "pets") is not None
    for name in ("it's", 'a "quoted" one', "100% #1?"):
        with pytest.raises(UserError, match=r"no model .* is registered"):
            versions.require_model(client, name)
    with pytest.raises(UserError, match="both quotation marks"):
        versions.require_model(client, STRANGE)


def test_a_strange_path_is_no_part_of_an_address(checkout, tmp_path):
    moved = checkout.rename(tmp_path / "it's a 20%25 köpie?#mine=1&b")
    environment = {**os.environ, "PYTHONPATH": str(clones.ROOT)}
    # A process of its own: the address is relative to its folder, and MLflow keeps one connection for an address.
    done = subprocess.run(
        [sys.executable, "-m", "adaptformer", "lineage", "champion", "--model", "pets"],
        cwd=moved, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert f"30 train, 0 validation, {registered.TESTS} test" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == [moved.name]


def test_a_moved_checkout_keeps_its_champion_and_goes_on(checkout, tmp_path, monkeypatch):
    moved = checkout.rename(tmp_path / "elsewhere")
    monkeypatch.chdir(moved)
    assert champion(tmp_path / "out").is_file()
    version = registered.challenge(RunFolder().root, "pets", set())
    assert registered.ask("pets", version).decision.challenger == "2"
    assert len(promotion.history("pets")) >= 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "out"], "nothing where it was before"


def test_a_run_that_was_killed_before_the_move_is_continued_or_marked(checkout, tmp_path, monkeypatch):
    old, new = (RunFolder().root / name for name in ("one", "two"))
    settings = load(Path("params.yaml"))
    killed = [Tracker("test", settings, {"git.commit": "0"}, RunFolder(place)) for place in (old, new)]
    for one in killed:
        one.log_epoch(ROW)
    monkeypatch.chdir(checkout.rename(tmp_path / "it's elsewhere"))
    commits = {old: "0", new: "1"}  # of another commit, a run is not continued
    present = [Tracker("test", settings, {"git.commit": commits[p]}, RunFolder(p)) for p in commits]
    for one in present:
        one.log_epoch(ROW)
    client = mlflow_store.connect()
    assert [client.get_run(one.run_id).info.status for one in killed] == ["RUNNING", "KILLED"]
    assert present[0].run_id == killed[0].run_id


@pytest.fixture
def trained(checkout, tmp_path, empty_database, monkeypatch):
    """Return `trained(commit)`, which logs an epoch in the present folder as a run that is then killed.

    Its store is outside of the checkout, as on a server.
    """
    store = tmp_path / "store"
    store.mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shutil.copy2(empty_database, store)}")

    def trained(commit="0"):
        tracker = Tracker("test", load(Path("params.yaml")), {"git.commit": commit}, RunFolder())
        tracker.log_epoch(ROW)
        return tracker.run_id

    return trained


def status(run_id):
    return mlflow_store.connect().get_run(run_id).info.status


def test_on_a_server_a_moved_checkout_ends_or_continues_its_killed_run(trained, checkout, tmp_path, monkeypatch):
    killed = trained()
    monkeypatch.chdir(checkout.rename(tmp_path / "elsewhere"))
    assert trained() == killed
    assert trained("another") != killed
    assert status(killed) == "KILLED"


def test_on_a_server_a_copy_leaves_its_originals_run_alone(trained, checkout, tmp_path, monkeypatch):
    original = trained()
    shutil.copytree(checkout, tmp_path / "copy")
    away = checkout.rename(tmp_path / "away")
    monkeypatch.chdir((tmp_path / "copy").rename(checkout))  # even in the place of its original
    assert trained() != original
    trained("another")
    assert status(original) == "RUNNING"
    monkeypatch.chdir(away)
    assert trained() == original


def test_a_copy_never_writes_into_its_original(checkout, tmp_path, monkeypatch):
    copy = shutil.copytree(checkout, tmp_path / "copy")
    before = listing(checkout)
    monkeypatch.chdir(copy)
    assert champion(tmp_path / "out").is_file()
    registered.challenge(RunFolder().root, "pets", set())
    registered.ask("pets", "2")
    assert listing(checkout) == before
    monkeypatch.chdir(checkout)
    assert [str(found.version) for found in mlflow_store.versions_of(mlflow_store.connect(), "pets")] == ["1"]


def test_a_moved_database_that_cannot_be_written_is_read_and_takes_no_change(checkout, tmp_path, monkeypatch, request):
    moved = checkout.rename(tmp_path / "elsewhere")
    monkeypatch.chdir(moved)
    connect = sqlite3.connect

    def read_only(database):
        if database == moved / "mlflow.db":
            return connect(f"file:{database}?mode=ro", uri=True)
        return connect(database)

    monkeypatch.setattr(relocation.sqlite3, "connect", read_only)
    assert champion(tmp_path / "out").is_file()
    with pytest.raises(UserError, match="Read-only file system"), mlflow_store.user_errors("nothing was changed"):
        mlflow_store.connect().set_registered_model_alias("pets", "other", "1")


def test_a_database_whose_files_are_beside_it_is_not_touched(checkout):
    before = (checkout / "mlflow.db").read_bytes()
    assert relocation.follow(checkout / "mlflow.db") is None
    assert (checkout / "mlflow.db").read_bytes() == before
