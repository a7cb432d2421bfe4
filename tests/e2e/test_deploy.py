"""deploy/compose.yaml without containers: its commands and settings start MLflow and Prefect on PostgreSQL and S3."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import boto3
import pytest
import yaml
from clones import answers, free_port, kill_group, wait_for
from moto.server import ThreadedMotoServer

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())
PASSWORD = "planted-in-the-address"
KEYS = {"POSTGRES_PASSWORD": "planted-postgres", "S3_ACCESS_KEY": "key", "S3_SECRET_KEY": "planted-secret-key"}
PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
"""Where Debian's package `postgresql` puts the server's programs."""
needs_postgresql = pytest.mark.skipif(
    not (PROGRAMS or shutil.which("initdb")),
    reason="no PostgreSQL here: `apt-get install postgresql` runs this",
)


def program(name):
    return str(PROGRAMS[-1] / name) if PROGRAMS else shutil.which(name)


def as_nobody(*command):
    """PostgreSQL refuses to run as root, as which containers run tests."""
    return ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command) if os.getuid() == 0 else command


@pytest.fixture(scope="module")
def ports():
    return {"postgres": free_port(), "mlflow": free_port(), "prefect": free_port()}


@pytest.fixture(scope="module")
def postgres(ports, tmp_path_factory):
    """A PostgreSQL with the databases of deploy/databases.sql and of the image's POSTGRES_DB."""
    folder = tmp_path_factory.mktemp("postgres")
    for place in (folder, *folder.parents):  # its user must reach its files
        if place.stat().st_uid == os.getuid() and str(place).startswith("/tmp/"):  # noqa: S108
            place.chmod(0o755)
    if os.getuid() == 0:
        os.chown(folder, 65534, 65534)
    data, user = folder / "data", COMPOSE["x-postgres"]["POSTGRES_USER"]

    def run(*command):
        return subprocess.run(command, cwd=folder, capture_output=True, check=True)

    run(*as_nobody(program("initdb"), "-D", data, "-U", user, "--auth=trust"))
    listening = ("-p", str(ports["postgres"]), "-k", str(folder), "-c", "listen_addresses=127.0.0.1")
    server = subprocess.Popen(as_nobody(program("postgres"), "-D", data, *listening), cwd=folder,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    psql = ("psql", "-h", "127.0.0.1", "-p", str(ports["postgres"]), "-U", user)
    try:
        asking = (*psql, "-d", "postgres", "-c", "select 1")
        wait_for(lambda: subprocess.run(asking, capture_output=True, check=False).returncode == 0, server, 120)
        run(*psql, "-d", "postgres", "-c", "create database mlflow")
        run(*psql, "-d", "mlflow", "-f", ROOT / "deploy/databases.sql")
        yield psql
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)


@pytest.fixture(scope="module")
def store():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def started(postgres, store, ports, clone, tmp_path_factory):
    """What compose.yaml gives the worker, once the services that are ours run on this machine."""
    logs = tmp_path_factory.mktemp("logs")
    replaced = {
        "postgres:5432": f"127.0.0.1:{ports['postgres']}", "http://mlflow:5000": f"http://127.0.0.1:{ports['mlflow']}",
        "http://prefect:4200": f"http://127.0.0.1:{ports['prefect']}", "${S3_ENDPOINT:-http://store:9000}": store,
        "0.0.0.0": "127.0.0.1", "/tmp/prefect": str(clone.root / ".prefect"), "/prefect": str(logs / "prefect"),  # noqa: S104, S108
        **{f"${{{name}}}": value for name, value in KEYS.items()},
        **{f"${{{name}:?choose one}}": value for name, value in KEYS.items()},
        "${S3_SECRET_KEY:?choose one, of at least 8 characters}": KEYS["S3_SECRET_KEY"],
        "${S3_REGION:-us-east-1}": "us-east-1",
    }  # fmt: skip

    def here(text):
        for there, value in replaced.items():
            if there != "/prefect" or text == there:
                text = text.replace(there, value)
        assert "${" not in text, text
        return {"5000": str(ports["mlflow"]), "4200": str(ports["prefect"])}.get(text, text)

    def environment(name):
        given = {key: here(value) for key, value in COMPOSE["services"][name]["environment"].items()}
        if "MLFLOW_TRACKING_URI" in given:  # MLflow takes the password and does not ask for it
            given["MLFLOW_TRACKING_URI"] = given["MLFLOW_TRACKING_URI"].replace("//", f"//ada:{PASSWORD}@")
        return given

    with contextlib.ExitStack() as until_done:

        def start(name):
            command = [here(word) for word in COMPOSE["services"][name]["command"]]
            command[0] = {"python": sys.executable}.get(command[0], command[0])
            log = until_done.enter_context((logs / f"{name}.log").open("wb"))
            process = subprocess.Popen(
                command,
                cwd=clone.root,
                env={**clone.environment, **environment(name)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            until_done.callback(kill_group, process)
            return process

        assert start("buckets").wait(120) == 0
        assert start("buckets").wait(120) == 0  # again: they are there
        processes = {name: start(name) for name in ("mlflow", "prefect", "worker")}
        wait_for(lambda: answers(f"http://127.0.0.1:{ports['mlflow']}/health"), processes["mlflow"], 120)
        wait_for(lambda: b"started!" in (logs / "worker.log").read_bytes(), processes["worker"], 120)
        yield environment("worker")


@pytest.fixture(scope="module")
def trained(clone, started):
    """What a run of adaptformer/train by the worker printed."""
    words = ("prefect", "deployment", "run", "adaptformer/train", "--watch", "--watch-timeout", "280")
    return clone.run(*words, COLUMNS="200", **started)


@needs_postgresql
def test_a_worker_trains_and_the_model_is_in_the_bucket(trained, clone, started, store):
    assert "Completed" in trained
    client = boto3.client("s3", endpoint_url=store, aws_access_key_id="key", aws_secret_access_key="s" * 8,
                          region_name="us-east-1")  # fmt: skip
    stored = [item["Key"] for item in client.list_objects_v2(Bucket="mlflow")["Contents"]]
    assert any(name.endswith("/report.html") for name in stored)
    assert any(name.endswith("model.onnx") for name in stored)
    registration = json.loads((clone.root / "artifacts/registration.json").read_text())
    assert registration["tracking_uri"] == started["MLFLOW_TRACKING_URI"].replace(f"ada:{PASSWORD}@", "")
    assert not (clone.root / "mlflow.db").exists()


@needs_postgresql
def test_no_password_and_no_key_is_stored_or_shown(trained, clone, postgres, tmp_path):
    dumps = []
    for database in ("prefect", "mlflow"):
        words = (program("pg_dump"), *postgres[1:], "-f", tmp_path / f"{database}.sql", database)
        subprocess.run(words, capture_output=True, check=True)
        dumps.append((tmp_path / f"{database}.sql").read_bytes())
    assert b"digits" in dumps[0]
    assert b"digits" in dumps[1]
    (tmp_path / "printed").write_text(trained)
    # The services' own files, such as DVC's index of what it has hashed, are as little a place for them as results.
    places = [tmp_path, *(clone.root / name for name in ("artifacts", ".prefect", ".dvc"))]
    files = [path for place in places for path in place.rglob("*") if path.is_file()]
    assert len(files) > 30
    planted = [PASSWORD, KEYS["S3_SECRET_KEY"], KEYS["POSTGRES_PASSWORD"]]
    assert [(path, word) for path in files for word in planted if word.encode() in path.read_bytes()] == []


@needs_postgresql
def test_runs_are_in_the_databases(trained, postgres):
    for database, table in (("mlflow", "runs"), ("prefect", "flow_run")):
        words = (*postgres, "-d", database, "-tAc", f"select count(*) from {table}")  # noqa: S608
        assert int(subprocess.run(words, capture_output=True, text=True, check=True).stdout) == 1


@needs_postgresql
def test_the_champion_is_predicted_with(trained, clone, started):
    words = ("prefect", "deployment", "run", "adaptformer/predict", "--watch", "--watch-timeout", "280")
    given = ("-p", 'paths=["data/test"]', "-p", f"into={clone.root / 'predicted'}", "-p", "workers=1")
    printed = clone.run(*words, *given, COLUMNS="200", **started)
    assert "60 images are in" in printed
    assert len(list((clone.root / "predicted/predictions").iterdir())) == 1


@needs_postgresql
def test_data_are_shared_through_the_bucket(trained, clone, started):
    clone.run("dvc", "remote", "add", "--default", "storage", "s3://dvc")
    clone.run("dvc", "push", "data.dvc", **started)
    before = {path.relative_to(clone.root): path.read_bytes() for path in (clone.root / "data").rglob("*.png")}
    shutil.rmtree(clone.root / "data")
    shutil.rmtree(clone.root / ".dvc/cache")
    clone.run("dvc", "pull", "data.dvc", **started)
    after = {path.relative_to(clone.root): path.read_bytes() for path in (clone.root / "data").rglob("*.png")}
    assert len(before) == 180
    assert after == before


@needs_postgresql
def test_pools_of_containers_take_the_deployments(started, clone):
    prefect = {**started, "PWD": str(clone.root)}
    clone.run("prefect", "work-pool", "create", "docker", "--type", "docker", **prefect)
    template = ("--base-job-template", "deploy/kubernetes-pool.json")
    clone.run("prefect", "work-pool", "create", "kubernetes", "--type", "kubernetes", *template, **prefect)
    printed = clone.run(
        "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", "deploy/prefect.yaml", COLUMNS="200", **prefect
    )
    for name in ("train-docker", "train-kubernetes", "predict-kubernetes"):
        assert f"adaptformer/{name}" in printed
    request = urllib.request.Request(  # noqa: S310
        f"{started['PREFECT_API_URL']}/deployments/name/adaptformer/train-kubernetes"
    )
    with urllib.request.urlopen(request, timeout=30) as reply:  # noqa: S310
        deployed = json.load(reply)
    assert deployed["job_variables"]["gpus"] == 1
    assert deployed["job_variables"]["env"]["MLFLOW_TRACKING_URI"] == started["MLFLOW_TRACKING_URI"]
    assert deployed["pull_steps"][0]["prefect.deployments.steps.set_working_directory"]["directory"] == "/adaptformer"


def test_every_service_has_an_image_and_what_it_waits_for_exists():
    services = COMPOSE["services"]
    for service in services.values():
        assert service["image"]
        assert set(service.get("depends_on", ())) <= services.keys()
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert source in COMPOSE["volumes"] or (ROOT / "deploy" / source).exists()
    assert all(port.startswith("127.0.0.1:") for service in services.values() for port in service.get("ports", ()))


def test_the_image_installs_the_tested_versions():
    text = (ROOT / "deploy/Dockerfile").read_text()
    assert "--constraint constraints.txt" in text
    for line in text.splitlines():
        if line.startswith("COPY"):
            *sources, _ = line.split()[1:]
            assert all((ROOT / source).exists() for source in sources)
