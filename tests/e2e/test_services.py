"""`make up` and `prefect deployment run adaptformer/train --watch`, with a real server and a real worker."""

import csv
import json
import os
import re
import signal
import sys
import urllib.request

import psutil
import pytest
import yaml
from clones import EPOCHS, free_port, kill_group
from mlflow import MlflowClient

from adaptformer.config.params import parse_overrides

pytestmark = pytest.mark.e2e
WATCH = ("prefect", "deployment", "run", "adaptformer/train", "--watch", "--watch-timeout", "280")
ONE_EPOCH = {"training.epochs": 1}


@pytest.fixture(scope="module")
def ports():
    return {"ADAPTFORMER_PREFECT_PORT": str(free_port()), "ADAPTFORMER_MLFLOW_PORT": str(free_port())}


@pytest.fixture(scope="module")
def prefect(ports):
    return {"PREFECT_API_URL": f"http://127.0.0.1:{ports['ADAPTFORMER_PREFECT_PORT']}/api", "COLUMNS": "200"}


@pytest.fixture(scope="module")
def services(clone, ports):
    """The services of `make up`, ready, and what they printed until then."""
    process = clone.start(sys.executable, "-m", "flows.services", **ports)
    printed = []
    try:
        for line in process.stdout:
            printed.append(line)
            if "Ctrl-C" in line:
                break
        yield process, "".join(printed)
    finally:
        kill_group(process)


@pytest.fixture(scope="module")
def watched(clone, services, prefect):
    return clone.run(*WATCH, **prefect)


def get(url):
    with urllib.request.urlopen(url, timeout=30) as reply:  # noqa: S310
        return reply.read().decode()


def post(url, content):
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(content).encode(), headers)  # noqa: S310
    with urllib.request.urlopen(request, timeout=30) as reply:  # noqa: S310
        return json.load(reply)


def test_make_up_prints_all_addresses_when_it_is_ready(services, prefect, ports):
    process, printed = services
    assert process.poll() is None, printed
    assert f"PREFECT_API_URL={prefect['PREFECT_API_URL']} prefect deployment run adaptformer/train --watch" in printed
    for port in ports.values():
        assert f"http://127.0.0.1:{port}" in printed
        assert "<html" in get(f"http://127.0.0.1:{port}/").lower()


def test_the_training_log_streams_into_the_terminal(watched):
    for line in ("validate begins", f"epoch 1/{EPOCHS}", f"epoch {EPOCHS}/{EPOCHS}", "export done", "Completed"):
        assert line in watched


def test_after_a_run_on_the_worker_dvc_is_clean_and_the_model_is_registered(clone, watched):
    assert "up to date" in clone.run("dvc", "status")
    registration = json.loads((clone.root / "artifacts/registration.json").read_text())
    assert (registration["model"], registration["version"]) == ("digits", "1")


def test_training_held_the_gpu_limit(watched, services, prefect):
    limits = post(f"{prefect['PREFECT_API_URL']}/v2/concurrency_limits/filter", {})
    free = [(limit["name"], limit["limit"], limit["active_slots"]) for limit in limits]
    assert sorted(free) == [("gpu", 1, 0), ("promotion", 1, 0)]
    assert "concurrency-limit.acquired * gpu" in watched
    assert "concurrency-limit.released * gpu" in watched


def test_the_run_is_named_and_tagged(watched, prefect):
    (run,) = post(f"{prefect['PREFECT_API_URL']}/flow_runs/filter", {})
    assert any(tag.startswith("folder-") for tag in run["tags"])
    assert run["name"].startswith("digits-")
    assert {"adaptformer", "train", "digits"} <= set(run["tags"])
    assert run["state_type"] == "COMPLETED"


def test_the_mlflow_pages_show_the_runs_files(clone, watched, ports):
    run = json.loads((clone.root / "artifacts/registration.json").read_text())["run_id"]
    report = get(f"http://127.0.0.1:{ports['ADAPTFORMER_MLFLOW_PORT']}/get-artifact?path=report.html&run_uuid={run}")
    assert report == (clone.root / "artifacts/report.html").read_text()


@pytest.fixture(scope="module")
def overridden(clone, watched, prefect):
    """What a second run printed, which is registered but not judged: a preset, and one epoch only.

    Its values are those of a comparison's method, so that the comparison below finds it trained.
    """
    values = yaml.safe_load((clone.root / "params.yaml").read_text())["comparison"]["overrides"]
    overrides = {**parse_overrides(values), **ONE_EPOCH}
    given = ("-p", f"overrides={json.dumps(overrides)}", "-p", 'presets=["linear"]')
    before = (clone.root / "artifacts/registration.json").read_bytes()
    printed = clone.run(*WATCH, *given, "-p", "register=true", "-p", "promotion=never", **prefect)
    return printed, before


def test_overrides_reach_the_worker_and_leave_the_record_alone(clone, overridden):
    printed, before = overridden
    assert "epoch 1/1:" in printed
    (run,) = (clone.root / "artifacts/runs").iterdir()
    params = json.loads((run / "params.json").read_text())
    assert (params["training"]["epochs"], params["adapter"]["method"]) == (1, "linear")
    assert "up to date" in clone.run("dvc", "status")
    assert (clone.root / "artifacts/registration.json").read_bytes() == before
    assert json.loads((run / "registration.json").read_text())["version"] == "2"


def test_the_gate_and_the_way_back_are_deployments(clone, overridden, prefect):
    promote = tuple(word.replace("/train", "/promote") for word in WATCH)
    asked = clone.run(*promote, "-p", "who=Ada", "-p", "why=one epoch", **prefect)
    assert "Version 2 does not replace version 1" in asked
    assert "Refused" in asked
    assert "concurrency-limit.acquired * promotion" in asked
    database = f"sqlite:///{clone.root / 'mlflow.db'}"
    # Both, or the registry would be the one that another test has set for the whole process.
    MlflowClient(database, database).set_registered_model_alias("digits", "champion", "2")
    rollback = tuple(word.replace("/train", "/rollback") for word in WATCH)
    assert "Rolled back" in clone.run(*rollback, "-p", "to=1", "-p", "who=Ada", "-p", "why=by hand", **prefect)
    history = clone.adaptformer("history")
    assert re.search(r"promotion +- -> 1 ", history)
    assert re.search(r"outside +1 -> 2 ", history)
    assert re.search(r"rollback +2 -> 1 +Ada +by hand", history)


def test_methods_are_compared_on_the_worker(clone, overridden, prefect):
    compare = tuple(word.replace("/train", "/compare") for word in WATCH)
    options = ("-p", 'methods=["linear"]', "-p", "seeds=[0]", "-p", f"overrides={json.dumps(ONE_EPOCH)}")
    output = clone.run(*compare, *options, **prefect)
    assert "export is current" in output  # the log of the process of its own streams as well
    (folder,) = (clone.root / "artifacts/comparisons").iterdir()
    assert "linear" in (folder / "comparison.csv").read_text()


def test_two_runs_share_the_trials_of_a_sweep(clone, overridden, prefect):
    sweep = tuple(word.replace("/train", "/sweep") for word in WATCH)
    given = {"search": ["training.base_lr=0.2,0.4,0.8"], "trials": 3, "overrides": ONE_EPOCH, "workers": 2}
    options = [word for name, value in given.items() for word in ("-p", f"{name}={json.dumps(value)}")]
    clone.run(*sweep, *options, **prefect)
    (folder,) = (clone.root / "artifacts/sweeps").iterdir()
    rows = list(csv.DictReader((folder / "sweep.csv").open()))
    assert sorted(float(row["training.base_lr"]) for row in rows) == [0.2, 0.4, 0.8]
    assert all(row["state"] == "complete" for row in rows)
    runs = post(f"{prefect['PREFECT_API_URL']}/flow_runs/filter", {"deployments": {"name": {"any_": ["trials"]}}})
    assert [run["state_type"] for run in runs] == ["COMPLETED", "COMPLETED"]
    client = MlflowClient(f"sqlite:///{clone.root / 'mlflow.db'}")
    tracked = client.search_runs(["1"], f"tags.sweep = '{folder.name}'")
    assert sorted(run.data.tags["sweep.trial"] for run in tracked) == ["1", "2", "3"]
    assert {run.info.status for run in tracked} == {"FINISHED"}


def test_the_prefect_run_links_the_report_and_the_decision(overridden, prefect, ports):
    artifacts = post(f"{prefect['PREFECT_API_URL']}/artifacts/filter", {})
    mlflow = f"http://127.0.0.1:{ports['ADAPTFORMER_MLFLOW_PORT']}/#/experiments/"
    for key, page in (("report", "report.html"), ("decision", "decision.html")):
        texts = [artifact["data"] for artifact in artifacts if artifact["key"] == key]
        assert texts
        assert all(mlflow in text and page in text for text in texts)


def test_a_failed_run_ends_with_1_and_says_why_without_a_traceback(clone, watched, services, prefect):
    added = clone.root / "data/test/0/added.png"
    added.write_bytes(next((clone.root / "data/test/0").iterdir()).read_bytes())
    output = clone.run(*WATCH, code=1, **prefect)
    added.unlink()
    assert output.count("data/ has changed since it was recorded") == 1
    assert "run `dvc add data`" in output
    assert "Traceback" not in output


def test_a_taken_port_is_one_line_of_error(clone, services, ports):
    output = clone.run(sys.executable, "-m", "flows.services", code=1, **ports)
    assert output.splitlines()[0] == f"error: port {ports['ADAPTFORMER_PREFECT_PORT']} is taken"
    assert len(output.splitlines()) == 2


def test_ctrl_c_ends_all_processes_and_says_one_line(services):
    # The last test of the file: it stops what the others use.
    process, _ = services
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 3
    os.killpg(process.pid, signal.SIGINT)
    printed, _ = process.communicate(timeout=120)
    assert printed == "stopping the services; the same command starts them again\n"
    assert process.returncode == 0
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
