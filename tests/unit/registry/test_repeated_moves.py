"""Promotions and rollbacks that are killed, asked for again or overtaken; nothing is trained."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import registered
from mlflow import MlflowClient
from registered import ask, challenge, wrong

from adaptformer.base.errors import UserError
from adaptformer.registry import alias_journal, decision_record, promotion
from adaptformer.registry.alias_journal import State


def test_a_champion_moved_while_it_is_judged_is_not_overrun(client, champion, tmp_path, monkeypatch):
    challenge(tmp_path, champion, wrong(20))
    registered.register(tmp_path, champion, wrong(10), sharpness=0.3)
    keep = decision_record.keep

    def moving(*args, **kwargs):
        client.set_registered_model_alias(champion, "champion", "2")
        return keep(*args, **kwargs)

    monkeypatch.setattr(decision_record, "keep", moving)
    with pytest.raises(UserError, match=r"another move .* came first .*outside"):
        ask(champion)
    assert alias_journal.aliases(client, champion) == State("2", "1")
    version = client.get_model_version(champion, "3")
    assert version.tags["gate.decision"] == "overtaken"
    assert version.description.startswith(version.tags["gate.sentence"])
    assert "not put to use" in version.description
    assert "replaces" not in version.description


def test_a_request_that_is_sent_again_is_one_move(client, champion, tmp_path, monkeypatch):
    challenge(tmp_path, champion, wrong(20))
    create = MlflowClient.create_model_version
    monkeypatch.setattr(MlflowClient, "create_model_version", lambda *a, **k: create(*a, **k) and create(*a, **k))
    assert ask(champion).promoted
    assert alias_journal.aliases(client, champion) == State("2", "1")
    assert [valid for _, valid in promotion.history(champion)] == [True, True, False]


class Killed(BaseException):
    """Ends a command as a kill does: nothing of this project catches it."""


WRITING = ("create_", "set_", "delete_", "log_", "update_", "rename_")


@pytest.fixture
def kill_before(monkeypatch):
    """Let a command be killed before its call number N that writes to MLflow, and return whether it came so far.

    What it only reads in between changes nothing.
    """

    def run(number, command):
        calls, within = 0, False

        def counting(method):
            def call(*arguments, **options):
                nonlocal calls, within
                if within:  # MLflow itself asks
                    return method(*arguments, **options)
                calls += 1
                if calls == number:
                    raise Killed
                within = True
                try:
                    return method(*arguments, **options)
                finally:
                    within = False

            return call

        with monkeypatch.context() as context:
            for name in dir(MlflowClient):
                if name.startswith(WRITING):
                    context.setattr(MlflowClient, name, counting(getattr(MlflowClient, name)))
            try:
                command()
            except Killed:
                return True
        return False

    return run


def valid_moves(name):
    return [(move.kind, move.after) for move, valid in promotion.history(name) if valid]


@pytest.mark.e2e
@pytest.mark.parametrize("to", [None, "1"])
def test_a_rollback_that_is_killed_at_any_call_and_repeated_is_one_rollback(
    client, champion, tmp_path, kill_before, to, monkeypatch
):
    challenge(tmp_path, champion, wrong(20))
    assert ask(champion).promoted
    monkeypatch.setattr(
        promotion.version_evidence, "gather", lambda *_: SimpleNamespace(model=Path("none"))
    )  # it takes long
    monkeypatch.setattr(promotion.version_evidence, "require_running", lambda *_: 0)
    number, killed = 0, True
    while killed:
        number, begun = number + 1, len(valid_moves(champion))

        def command(why=f"incident {number}"):
            return promotion.rollback(champion, to=to, who="Bob", why=why)

        killed = kill_before(number, command)
        assert command().after == State("1", "2"), number
        assert valid_moves(champion)[begun:] == [("rollback", State("1", "2"))], number
        # Another reason makes it another rollback, and puts the bad version back for the next round.
        assert promotion.rollback(champion, to="2", who="Bob", why=f"camera {number}").after == State("2", "1")
    assert number > 4


@pytest.mark.e2e
def test_a_promotion_that_is_killed_at_any_call_and_repeated_is_one_promotion(client, champion, tmp_path, kill_before):
    challenge(tmp_path, champion, wrong(20))
    number, killed, sentences = 0, True, set()
    while killed:
        number, begun = number + 1, len(valid_moves(champion))
        killed = kill_before(number, lambda number=number: ask(champion, why=f"go {number}"))
        outcome = ask(champion, why=f"go {number}")
        assert outcome.promoted, number
        assert valid_moves(champion)[begun:] == [("promotion", State("2", "1"))], number
        assert outcome.page.read_text().startswith("<!doctype html>"), number
        sentences.add(outcome.decision.sentence)
        promotion.rollback(champion, to="1", who="Bob", why=f"rain {number}")
        client.set_registered_model_alias(champion, "challenger", "2")
    assert len(sentences) == 1
    assert number > 12


def test_the_same_words_about_another_challenger_are_another_request(client, champion, tmp_path):
    challenge(tmp_path, champion, wrong(20))
    assert not ask(champion).already
    assert ask(champion).already
    registered.register(tmp_path, champion, wrong(5), sharpness=0.3)
    outcome = ask(champion)
    assert not outcome.already
    assert outcome.decision.challenger == "3"


def test_a_decision_that_was_altered_is_not_told_again(client, champion, tmp_path):
    challenge(tmp_path, champion, wrong(20))
    assert ask(champion).promoted
    version = client.get_model_version(champion, "2")
    folder = version.tags["gate.page"].rpartition("/")[0]
    client.log_text(version.run_id, "{}", f"{folder}/decision.json")
    with pytest.raises(UserError, match="is not the one that promoted it"):
        ask(champion)
