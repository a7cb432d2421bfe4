"""Promotion, rollback and their history on an MLflow server, from several processes; nothing is trained."""

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import clones
import pytest
import registered
from mlflow import MlflowClient
from registered import ask, challenge, wrong

from adaptformer.base.errors import UserError
from adaptformer.registry import alias_journal, promotion
from adaptformer.registry.alias_journal import Move, State
from adaptformer.tracking import mlflow_store

pytestmark = pytest.mark.e2e
WRITES = (
    "create_registered_model",
    "create_model_version",
    "set_registered_model_alias",
    "delete_registered_model_alias",
    "set_model_version_tag",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A real MLflow server, which hands out artifacts too; its address."""
    root, port = tmp_path_factory.mktemp("mlflow"), clones.free_port()
    command = (
        sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{root}/mlflow.db",
        "--artifacts-destination", str(root / "files"), "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
    )  # fmt: skip
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    process = subprocess.Popen(
        command, cwd=root, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        clones.wait_for(lambda: clones.answers(f"http://127.0.0.1:{port}/health"), process, 90)
        yield f"http://127.0.0.1:{port}"
    finally:
        clones.kill_group(process)


@pytest.fixture
def client(server, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    (tmp_path / "params.yaml").touch()
    monkeypatch.chdir(tmp_path)
    return mlflow_store.connect()


@pytest.fixture
def champion(client, request, tmp_path):
    """A registered model of its own for each test, whose version 1 is in use: 60 of 300 test images wrong."""
    name = re.sub(r"\W", "-", request.node.name)[-60:].strip("-")
    assert registered.register(tmp_path, name, wrong(60)) == "1"
    assert ask(name).promoted
    return name


def test_a_better_model_is_promoted_its_decision_is_kept_and_the_way_back_is_open(client, champion, tmp_path):
    assert challenge(tmp_path, champion, wrong(20)) == "2"
    outcome = ask(champion, why="spring data")
    assert outcome.promoted
    assert alias_journal.aliases(client, champion) == State("2", "1")
    version = client.get_model_version(champion, "2")
    folder = version.tags["gate.page"].rpartition("/")[0]
    kept = json.loads(Path(client.download_artifacts(version.run_id, f"{folder}/decision.json", ".")).read_text())
    assert (kept["promoted"], kept["who"], kept["why"]) == (True, "Ada", "spring data")
    page = Path(client.download_artifacts(version.run_id, f"{folder}/decision.html", ".")).read_text()
    assert outcome.page.read_text() == page
    assert promotion.history(champion)[-1][0].evidence == version.tags["gate.sha256"]
    promotion.rollback(champion, to=None, who="Bob", why="rain")
    assert alias_journal.aliases(client, champion) == State("1", "2")
    assert [move.kind for move, _ in promotion.history(champion)] == ["promotion", "promotion", "rollback"]


def race(uri, name, after, start, results):
    os.environ["MLFLOW_TRACKING_URI"] = uri
    client = mlflow_store.connect()
    wanted = Move("promotion", State("1", None), State(after, "1"), after, "2026-01-01T00:00:00Z", "race")
    start.wait(60)
    try:
        results.put((after, alias_journal.move(client, name, wanted).number))
    except UserError as error:
        results.put((after, error.cause))


def test_of_two_promotions_at_once_one_wins_and_the_other_gets_an_error(client, champion, server, tmp_path):
    numbers = ["2", "3"]
    for version in numbers:
        assert registered.register(tmp_path, champion, wrong(20), sharpness=int(version) / 10) == version
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(2), context.Queue()
    racers = [context.Process(target=race, args=(server, champion, version, start, results)) for version in numbers]
    for racer in racers:
        racer.start()
    answers = dict(results.get(timeout=600) for _ in racers)
    for racer in racers:
        racer.join()
    ((winner, number),) = [(version, result) for version, result in answers.items() if isinstance(result, int)]
    (loser,) = set(numbers) - {winner}
    assert "came first" in answers[loser]
    assert alias_journal.aliases(client, champion) == State(winner, "1")
    assert {move.number: valid for move, valid in promotion.history(champion)}[number]
    assert sum(valid for _, valid in promotion.history(champion)) == 2


def killed_before(client, name, wanted, write):
    """Make the move in a forked process that is killed, as by the system, just before its `write`-th write.

    Return whether it was killed: it is not when there are fewer writes.
    """
    child = os.fork()
    if child == 0:
        count = 0

        def counted(method):
            def call(*args, **kwargs):
                nonlocal count
                count += 1
                if count == write:
                    os.kill(os.getpid(), signal.SIGKILL)
                return method(*args, **kwargs)

            return call

        for method in WRITES:
            setattr(MlflowClient, method, counted(getattr(MlflowClient, method)))
        try:
            alias_journal.move(client, name, wanted)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def test_a_promotion_killed_at_any_point_is_completed_or_undone_by_the_next_start(client, champion, tmp_path):
    challenge(tmp_path, champion, wrong(20))
    outcomes = []
    for write in range(1, 20):
        before = alias_journal.settle(client, champion)
        number = len(alias_journal.read(client, champion))
        after = State("2" if before.champion == "1" else "1", before.champion)
        wanted = Move("promotion", before, after, "Ada", "2026-01-01T00:00:00Z", f"killed before write {write}")
        killed = killed_before(client, champion, wanted, write)
        written = len(alias_journal.read(client, champion)) > number
        now = alias_journal.settle(client, champion)
        assert now == (after if written else before), write
        assert alias_journal.aliases(client, champion) == now
        assert all(valid for _, valid in promotion.history(champion))
        assert all(move.done for move, _ in promotion.history(champion))
        outcomes.append(written)
        if not killed:
            break
    assert not killed
    # Before the first write nothing has happened; after it the move is completed, however far it came.
    assert outcomes[0] is False
    assert all(outcomes[1:])
    assert len(outcomes) >= 5
