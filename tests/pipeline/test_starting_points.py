"""Where people begin: an unpacked archive, a clone without data, another user's repository, links into a cache."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import clones
import mlflow
import pytest
from crafted import ROW, runs

from adaptformer.base import dvc_without_git
from adaptformer.base.errors import UserError
from adaptformer.config.params import load
from adaptformer.config.run_folder import RunFolder
from adaptformer.curation.importing import recording
from adaptformer.tracking import dvc_repository, git, mlflow_store
from adaptformer.tracking.locations import tracking_uri
from adaptformer.tracking.tracker import Tracker
from flows import flow_run, local, services
from tasks.limits import TEMPORARY


def dvc(*arguments, code=0):
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of a checkout without git, with what DVC needs, and two images."""
    root = tmp_path / "copied"
    shutil.copytree(clones.ROOT / ".dvc", root / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp", "*.local"))
    shutil.copy2(clones.ROOT / "params.yaml", root)
    for split in ("train", "test"):
        image = root / "data" / split / "a" / f"{split}.png"
        image.parent.mkdir(parents=True)
        image.write_bytes(split.encode())
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO, "adaptformer")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "adaptformer"]


def test_dvc_is_set_to_work_in_a_copy_without_git_and_a_line_says_so_once(copied, said):
    dvc("status", code=255)
    assert recording.dvc_add(Path("data")) is True
    dvc_repository.check_data()
    assert "up to date" in dvc("status", "data.dvc")
    (line,) = said()
    assert line == f"{copied} is no git repository: DVC is set to work without one (core.no_scm in .dvc/config.local)"
    assert git.git_tags() == {"git.commit": "none: no git repository"}
    assert git.short_commit() == "none"


def test_dvc_works_without_git_in_an_archive_that_git_made_and_with_git_in_the_repository(tmp_path, monkeypatch, said):
    if "no_scm" not in (clones.ROOT / ".dvc/config").read_text():
        pytest.skip("`dvc remote add` and the like have rewritten .dvc/config, without its comment")
    for name in (".gitattributes", ".dvc/config", "params.yaml"):
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(clones.ROOT / name, tmp_path / "source" / name)
    monkeypatch.chdir(tmp_path / "source")
    for command in ("init --quiet", "add .", "commit --quiet -m made", "archive -o ../made.tar HEAD"):
        subprocess.run(["git", *command.split()], check=True, env={**os.environ, **clones.IDENTITY})
    assert dvc("config", "core.no_scm") == ""
    shutil.unpack_archive(tmp_path / "made.tar", tmp_path / "unpacked", filter="data")
    monkeypatch.chdir(tmp_path / "unpacked")
    assert dvc("config", "core.no_scm") == "true\n"
    assert "no data or pipelines" in dvc("status")
    dvc_without_git.settle(Path())
    assert said() == []


def test_what_has_git_or_is_set_already_is_left_alone(copied, monkeypatch, said):
    monkeypatch.setattr(dvc_without_git.subprocess, "run", None)
    for name in (".git", "../.git"):  # a folder, or the file of a worktree; below a repository too
        Path(name).write_text("gitdir: elsewhere")
        dvc_without_git.settle(copied)
        Path(name).unlink()
    (copied / ".dvc/config.local").write_text("[core]\n    no_scm = true\n")
    dvc_without_git.settle(copied)
    assert said() == []


def test_a_setting_that_cannot_be_written_has_a_remedy(copied, monkeypatch):
    failing = [sys.executable, "-c", "import sys; sys.exit('ERROR: strange')"]
    run = subprocess.run
    monkeypatch.setattr(dvc_without_git.subprocess, "run", lambda _command, **options: run(failing, **options))
    with pytest.raises(UserError, match=r"is no git repository, and DVC could not .* \(ERROR: strange\)") as caught:
        dvc_without_git.settle(copied)
    assert caught.value.remedy == "run `git init` there, or `dvc config --local core.no_scm true`"


def test_data_that_are_not_there_have_the_remedy_of_their_case(copied):
    recording.dvc_add(Path("data"))

    def told():
        with pytest.raises(UserError) as caught:
            dvc_repository.check_data()
        return caught.value.cause, caught.value.remedy

    Path("data").rename("elsewhere")
    assert told() == ("data/ is missing", "bring it back with `dvc checkout`")
    Path(".dvc/cache").rename(".dvc/gone")
    cause, remedy = told()
    assert cause == "data/ is missing, and neither DVC's cache nor a remote has what data.dvc names"
    for way in ("dvc remote add --default NAME URL", "dvc pull", "adaptformer data import PATH", "data sample"):
        assert way in remedy
    Path("elsewhere").rename("data")
    assert told() == ("DVC's cache lacks data/, which is as it was recorded", "run `dvc add data`")
    Path("data/train/a/other.png").write_bytes(b"other")
    assert told() == ("data/ has changed since it was recorded", "run `dvc add data`")
    Path("data").rename("elsewhere")
    with Path(".dvc/config.local").open("a") as config:
        config.write("['remote \"store\"']\n    url = /nowhere\n")
    assert told() == ("data/ is missing, and DVC's cache lacks it", "bring it here with `dvc pull`")


@pytest.fixture
def anothers(tmp_path, monkeypatch):
    """A repository that git takes for another user's."""
    monkeypatch.chdir(tmp_path)
    shutil.copy2(clones.ROOT / "params.yaml", tmp_path)
    subprocess.run(["git", "init", "--quiet"], check=True)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    return tmp_path


def test_a_repository_of_another_user_is_tracked_as_such_with_the_remedy(anothers, said):
    assert git.git_tags() == {"git.commit": f"none: {git.NOT_OURS}"}
    (line,) = said()
    assert line.endswith(f"run `git config --global --add safe.directory {anothers}`)")


def test_what_dvcs_own_git_refuses_has_the_same_remedy(anothers):
    wrapped = RuntimeError("unexpected")
    wrapped.__cause__ = OSError(f"repository path '{anothers}' is not owned by current user")
    with pytest.raises(UserError, match="belongs to another user") as caught, dvc_repository.user_errors():
        raise wrapped
    assert f"safe.directory {anothers}`" in caught.value.remedy


def test_other_reasons_for_no_commit_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "--quiet"], check=True)
    assert git.git_tags() == {"git.commit": "none: no commit yet"}
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git.git_tags() == {"git.commit": "none: git is not installed"}


OTHERS = {
    "MLFLOW_RUN_ID": "0" * 32,
    "MLFLOW_EXPERIMENT_ID": "77",
    "MLFLOW_EXPERIMENT_NAME": "another",
    "MLFLOW_REGISTRY_URI": "http://127.0.0.1:9",
}


def test_other_projects_variables_of_mlflow_change_nothing(client, folder, monkeypatch):
    for name, value in OTHERS.items():
        monkeypatch.setenv(name, value)
    params = load(clones.ROOT / "params.yaml")
    tracker = Tracker("test", params, {"git.commit": "0"}, folder)
    tracker.log_epoch(ROW)
    tracker.log_results(folder)
    tracker.finish("FINISHED")
    (run,) = runs(client)
    assert run.info.run_id == tracker.run_id
    assert client.get_experiment(run.info.experiment_id).name == params.registry.experiment
    mlflow_store.connect().create_registered_model("pets")
    there = mlflow.MlflowClient(tracking_uri(), tracking_uri())  # where no variable says otherwise
    assert [found.name for found in there.search_registered_models()] == ["pets"]


class StartedError(Exception):
    """Raised in place of a server's start."""


def test_other_projects_variables_of_prefect_are_left_aside(monkeypatch):
    seen = {}

    def start(_log, environment):
        seen.update({name: value for name, value in environment.items() if name.startswith("PREFECT_")})
        raise StartedError

    others = ("API_URL", "API_KEY", "API_DATABASE_CONNECTION_URL", "SERVER_DATABASE_CONNECTION_URL", "SERVER_API_PORT",
              "PROFILE", "PROFILES_PATH", "HOME", "CLOUD_API_URL")  # fmt: skip
    monkeypatch.setattr(os, "environ", {name: value for name, value in os.environ.items() if "PREFECT" not in name})
    os.environ.update({f"PREFECT_{name}": "another" for name in others})
    os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
    monkeypatch.setattr(local.temporary_server, "start", start)
    with pytest.raises(StartedError), local.on_temporary_server():
        pytest.fail("it has started")
    assert seen == {
        "PREFECT_HOME": str(clones.ROOT / ".prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_API_DATABASE_CONNECTION_URL": "sqlite+aiosqlite:///.prefect/prefect.db",
    }


def test_other_projects_options_of_mlflows_server_are_left_aside(monkeypatch):
    for name in services.FOREIGN:
        monkeypatch.setenv(name, "another")
    assert "another" not in services.Services().environment.values()


def test_make_up_takes_the_port_of_prefect_toml_and_says_which_one_is_taken_and_where_to_change_it(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(services, "ROOT", tmp_path)
    monkeypatch.delenv("ADAPTFORMER_PREFECT_PORT", raising=False)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        (tmp_path / "prefect.toml").write_text(f'[api]\nurl = "http://127.0.0.1:{port}/api"\n')
        with pytest.raises(UserError, match=f"^port {port} is taken\n") as taken:
            services.Services()
    assert "api.url in prefect.toml" in taken.value.remedy
    monkeypatch.setenv("ADAPTFORMER_MLFLOW_PORT", str(clones.free_port()))
    assert services.Services().api == f"http://127.0.0.1:{port}/api"


@pytest.mark.parametrize("content", ["", "[api]\n", "api = 3\n", "[api\n", '[api]\nurl = "http://here:many/api"\n'])
def test_a_prefect_toml_without_an_address_is_told(tmp_path, monkeypatch, content):
    monkeypatch.setattr(services, "ROOT", tmp_path)
    (tmp_path / "prefect.toml").write_text(content)
    with pytest.raises(UserError, match="has no address of a server"):
        services.Services()


class Server:
    """A Prefect server with runs by their tags, all of them running."""

    def __init__(self, runs):
        self.runs, self.crashed = runs, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def read_flow_runs(self, flow_run_filter):
        wanted = set(flow_run_filter.tags.all_)
        return [SimpleNamespace(id=name, name=name) for name, tags in self.runs.items() if wanted <= set(tags)]

    def set_flow_run_state(self, run, _state, force):
        assert force
        self.crashed.append(run)


@pytest.mark.parametrize("temporary", [True, False])
@pytest.mark.parametrize("a_copy", [True, False])
def test_killed_flow_runs_of_a_moved_checkout_are_marked_and_on_a_server_those_of_its_original_are_not(
    copied, tmp_path, monkeypatch, temporary, a_copy
):
    monkeypatch.delenv(TEMPORARY, raising=False)
    if temporary:  # its database is in the checkout
        monkeypatch.setenv(TEMPORARY, "1")
    folder = RunFolder()
    killed = {"before": flow_run.folder_tags(folder), "apart": flow_run.folder_tags(RunFolder(Path("artifacts/x")))}
    monkeypatch.chdir((shutil.copytree if a_copy else shutil.move)(copied, tmp_path / "other"))
    server = Server({**killed, "here": flow_run.folder_tags(folder)})
    monkeypatch.setattr(flow_run, "get_client", lambda **_: server)
    flow_run.mark_crashed(folder)
    assert set(server.crashed) == ({"here"} if a_copy and not temporary else {"here", "before"})
