"""Rollbacks, and champions that were moved or deleted by hand; nothing is trained."""

import pytest
import registered
from registered import ask, challenge, wrong

from adaptformer.base.errors import UserError
from adaptformer.registry import alias_journal, promotion, versions
from adaptformer.registry.alias_journal import State


def test_a_rollback_really_moves_and_a_second_one_goes_back_again(client, champion, tmp_path):
    challenge(tmp_path, champion, wrong(20))
    assert ask(champion).promoted
    move = promotion.rollback(champion, to=None, who="Bob", why="it dislikes rain")
    assert alias_journal.aliases(client, champion) == State("1", "2")
    assert (move.kind, move.before, move.after) == ("rollback", State("2", "1"), State("1", "2"))
    promotion.rollback(champion, to=None, who="Bob", why="it was the camera")
    assert alias_journal.aliases(client, champion) == State("2", "1")
    assert [move.why for move, _ in promotion.history(champion)][-2:] == ["it dislikes rain", "it was the camera"]


def test_a_version_that_answers_otherwise_than_it_was_judged_by_is_not_rolled_back_to(client, champion, tmp_path):
    challenge(tmp_path, champion, wrong(20))
    assert ask(champion).promoted
    registered.write_data(tmp_path / "data", registered.manifest())
    with pytest.raises(UserError, match="no longer gives the answers"):
        promotion.rollback(champion, to="1", who="Bob", why="x")
    assert alias_journal.aliases(client, champion) == State("2", "1")


def test_a_rollback_needs_a_reason_and_somewhere_to_go(client, champion):
    with pytest.raises(UserError, match="needs a reason"):
        promotion.rollback(champion, to=None, who="Bob", why=" ")
    with pytest.raises(UserError, match="no previous version"):
        promotion.rollback(champion, to=None, who="Bob", why="x")
    with pytest.raises(UserError, match="has no version 9"):
        promotion.rollback(champion, to="9", who="Bob", why="x")


def test_a_champion_moved_by_hand_stays_and_the_history_says_so(client, champion, tmp_path):
    challenge(tmp_path, champion, wrong(20))
    client.set_registered_model_alias(champion, "champion", "2")
    every = promotion.history(champion)
    assert [move.kind for move, _ in every] == ["promotion", "outside"]
    assert every[-1][0].after == State("2", "1")
    assert alias_journal.aliases(client, champion) == State("2", "1")
    assert promotion.history(champion) == every  # looked at again, nothing more is written
    promotion.rollback(champion, to=None, who="Bob", why="back")
    assert alias_journal.aliases(client, champion) == State("1", "2")


def test_without_an_alias_the_version_that_was_in_use_last_is_to_be_beaten(client, champion, tmp_path):
    challenge(tmp_path, champion, wrong(90))
    client.delete_registered_model_alias(champion, "champion")
    outcome = ask(champion)
    assert outcome.decision.champion == "1"
    assert not outcome.promoted
    registered.register(tmp_path, champion, wrong(10), sharpness=0.3)
    assert ask(champion).promoted
    assert alias_journal.aliases(client, champion) == State("3", "1")


def test_a_deleted_champion_blocks_nothing(client, champion, tmp_path):
    challenge(tmp_path, champion, wrong(20))
    assert ask(champion).promoted
    client.delete_model_version(champion, "2")
    assert promotion.history(champion)[-1][0].kind == "outside"
    registered.register(tmp_path, champion, wrong(10), sharpness=0.3)
    assert ask(champion).promoted
    assert alias_journal.aliases(client, champion).champion == "3"


def test_only_what_was_in_use_is_rolled_back_to(client, champion, tmp_path):
    challenge(tmp_path, champion, wrong(90))
    assert not ask(champion).promoted
    with pytest.raises(UserError, match=r"version 2 .* was never in use"):
        promotion.rollback(champion, to="2", who="Bob", why="x")


def test_what_a_person_took_out_of_use_is_known_until_it_is_put_to_use_again(client, champion, tmp_path):
    challenge(tmp_path, champion, wrong(20))
    assert ask(champion).promoted
    assert alias_journal.withdrawn(alias_journal.read(client, champion), "1") is None  # beaten, not withdrawn
    promotion.rollback(champion, to=None, who="Bob", why="rain")
    assert alias_journal.withdrawn(alias_journal.read(client, champion), "2").why == "rain"
    # A run does not put it back of itself; it neither asks about what is in use.
    made = [versions.Registration(champion, version, "0" * 64, "", "") for version in ("2", "1")]
    assert "Bob took it out of use (rain)" in versions.reason_not_to_judge(made[0])
    assert versions.reason_not_to_judge(made[1]) == ""
    assert ask(champion, version="2").promoted
    assert alias_journal.withdrawn(alias_journal.read(client, champion), "2") is None
