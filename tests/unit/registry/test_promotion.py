"""Promotion, rollback and their history in MLflow's database; nothing is trained.

tests/e2e/test_promotion_on_a_server.py has what only a server can show.
"""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import registered
from registered import PARAMS, ask, challenge, wrong

from adaptformer.__main__ import main
from adaptformer.base.errors import UserError
from adaptformer.config.params import GateParams
from adaptformer.registry import alias_journal, decision_record, promotion, versions
from adaptformer.registry.alias_journal import State


def test_the_first_version_becomes_champion_and_the_history_says_why(client, champion):
    assert alias_journal.aliases(client, champion) == State("1", None)
    assert versions.alias(client, champion, "challenger") is None
    ((move, valid),) = promotion.history(champion)
    assert valid
    assert (move.kind, move.before, move.after) == ("promotion", State(), State("1", None))
    assert (move.who, move.why) == ("Ada", "asked by a test")


def test_a_better_challenger_is_promoted(client, champion, tmp_path):
    assert challenge(tmp_path, champion, wrong(20)) == "2"
    assert versions.alias(client, champion, "challenger") == "2"
    outcome = ask(champion)
    assert outcome.promoted
    assert alias_journal.aliases(client, champion) == State("2", "1")
    assert versions.alias(client, champion, "challenger") is None
    assert outcome.decision.sentence.startswith("Version 2 replaces version 1")


@pytest.mark.parametrize(("errors", "word"), [(wrong(90), "worse"), (wrong(58), "chance")])
def test_a_worse_or_insignificantly_better_challenger_is_refused(client, champion, tmp_path, errors, word):
    challenge(tmp_path, champion, errors)
    outcome = ask(champion)
    assert not outcome.promoted
    assert alias_journal.aliases(client, champion) == State("1", None)
    assert versions.alias(client, champion, "challenger") == "2"
    assert len(promotion.history(champion)) == 1
    assert client.get_model_version(champion, "2").tags["gate.decision"] == "refused"


def test_the_decision_is_kept_with_the_version(client, champion, tmp_path):
    challenge(tmp_path, champion, wrong(20))
    outcome = ask(champion, why="spring data")
    version = client.get_model_version(champion, "2")
    assert version.tags["gate.decision"] == "passed"
    assert version.tags["gate.champion"] == "1"
    checks = json.loads(version.tags["gate.checks"])
    assert [check["name"] for check in checks if check["verdict"] != "pass"] == [
        "newly wrong",
        "looks at these test images",
    ]
    folder = version.tags["gate.page"].rpartition("/")[0]
    kept = json.loads(Path(client.download_artifacts(version.run_id, f"{folder}/decision.json", ".")).read_text())
    assert (kept["promoted"], kept["who"], kept["why"]) == (True, "Ada", "spring data")
    page = Path(client.download_artifacts(version.run_id, f"{folder}/decision.html", ".")).read_text()
    assert outcome.decision.sentence in page
    assert outcome.page.read_text() == page
    assert version.description.startswith(outcome.decision.sentence), "MLflow's list shows the beginning"
    assert version.tags["gate.page"] in version.description
    assert promotion.history(champion)[-1][0].evidence == version.tags["gate.sha256"]


RENAMED = GateParams(**(registered.BOUNDS.model_dump() | {"renamed_classes": (("red", "crimson"),)}))


@pytest.mark.parametrize("bounds", [registered.BOUNDS, RENAMED])
def test_a_renamed_class_is_an_explicit_choice(client, champion, tmp_path, bounds):
    table = registered.manifest()
    table["path"] = table["path"].str.replace("/red/", "/crimson/")
    table["label"] = table["label"].replace("red", "crimson")
    for path in table["path"]:
        split, label, name = path.split("/")
        number = int(name.removesuffix(".png")) + (0 if split == "test" else 10_000)
        (tmp_path / "data" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / path).write_bytes(registered.picture(label.replace("crimson", "red"), number))
    challenge(tmp_path, champion, wrong(20), table=table, called={"red": "crimson"})
    decision = ask(champion, bounds=bounds).decision
    if bounds is RENAMED:
        # Both models run on the images anew, and this one is right on all.
        assert (decision.dropped, decision.new, decision.numbers["top1_champion"]) == ((), (), 1.0)
        assert decision.numbers["log_loss_champion"] < 0.1
        assert decision.shared == ("blue", "crimson", "green")
    else:
        assert decision.dropped == ("red",)
        assert "It does not know the class red" in next(
            check.reason for check in decision.checks if check.name == "classes"
        )


def test_images_of_one_group_are_no_independent_evidence_when_the_models_are_asked_anew(client, champion, tmp_path):
    """Recorded predictions without groups, as of earlier versions: they come from the pattern of the run's params."""
    table = registered.manifest()
    registered.write_data(tmp_path / "data", table)
    challenge(tmp_path, champion, wrong(20), table=table, keep_predictions=False, group=r"(\d)\.png$")
    checks = {check.name: check for check in ask(champion).decision.checks}
    assert checks["test images"].value == "300 in 10 groups"


def test_renaming_merges_no_classes(client, champion, tmp_path):
    challenge(tmp_path, champion, wrong(20))
    merged = GateParams(**(registered.BOUNDS.model_dump() | {"renamed_classes": (("red", "green"),)}))
    with pytest.raises(UserError, match="gives two classes of the champion the name green"):
        ask(champion, bounds=merged)


def looks(decision):
    return next(check.value for check in decision.checks if check.name == "looks at these test images")


def test_comparisons_on_the_same_test_images_are_counted(client, champion, tmp_path):
    for number, sharpness in enumerate((0.2, 0.3, 0.4), start=1):
        registered.register(tmp_path, champion, wrong(90), sharpness=sharpness)
        assert looks(ask(champion).decision) == str(number)
    assert looks(ask(champion).decision) == "3"  # the same version again is no further look
    table = registered.manifest(tests=120)
    registered.register(tmp_path, champion, wrong(90), sharpness=0.5, table=table)
    registered.write_data(tmp_path / "data", table)
    assert looks(ask(champion).decision) == "1"


def test_a_first_version_no_better_than_chance_is_refused(client, name, tmp_path):
    registered.register(tmp_path, name, wrong(200))
    outcome = ask(name)
    assert not outcome.promoted
    assert "not shown to be better than always answering blue, which gets 33.3 % in top-1" in outcome.decision.sentence
    assert alias_journal.aliases(client, name) == State()


def test_images_that_the_challenger_trained_on_are_left_out(client, champion, tmp_path):
    table = registered.manifest()
    table.loc[table["split"] == "train", "sha256"] = list(table.loc[table["split"] == "test", "sha256"][:30])
    challenge(tmp_path, champion, wrong(20, 30), table=table)
    decision = ask(champion).decision
    assert decision.images == registered.TESTS - 30
    assert decision.left_out.seen_by_challenger == 30


def test_other_test_images_mean_that_both_models_are_judged_anew(client, champion, tmp_path):
    table = registered.manifest(tests=120)
    challenge(tmp_path, champion, wrong(20), table=table)
    with pytest.raises(UserError, match="is not the test image"):
        ask(champion)
    registered.write_data(tmp_path / "data", table)
    decision = ask(champion).decision
    # The graphs behind both versions know every colour, whatever the recorded answers say.
    assert decision.images == 120
    assert decision.numbers["top1_champion"] == decision.numbers["top1_challenger"] == 1.0
    assert not decision.promoted


def test_asking_about_a_version_that_cannot_be_judged_is_an_error(client, champion):
    with pytest.raises(UserError, match="no challenger; version 1 is champion"):
        ask(champion, why="once more")
    with pytest.raises(UserError, match="is champion already"):
        ask(champion, version="1")
    with pytest.raises(UserError, match="no model nothing is registered"):
        ask("nothing")


def test_a_persons_description_stays(client, champion, tmp_path):
    challenge(tmp_path, champion, wrong(90))
    client.update_model_version(champion, "2", "customer sign-off, ticket 12")
    for _ in range(2):
        ask(champion)
    description = client.get_model_version(champion, "2").description
    assert description.startswith("customer sign-off, ticket 12")
    assert description.count("does not replace") == 1
    assert description.count(decision_record.MARK) == 1


def test_a_description_of_an_earlier_release_is_replaced_by_one_that_begins_with_the_sentence(
    client, champion, tmp_path
):
    challenge(tmp_path, champion, wrong(90))
    client.update_model_version(
        champion, "2", f"ticket 12\n\n{decision_record.MARK}\nAn old sentence.\n\n[The page](x)"
    )
    outcome = ask(champion)
    description = client.get_model_version(champion, "2").description
    assert description.startswith(f"ticket 12\n\n{outcome.decision.sentence}")
    assert "An old sentence" not in description


def test_the_champion_is_watched_with_its_own_validation_images(client, name, tmp_path, capsys):
    table = registered.manifest()
    table.loc[:9, "split"] = "validation"
    registered.write_data(tmp_path / "data", table)
    shutil.copy2(registered.PARAMS, tmp_path)
    assert registered.register(tmp_path, name, wrong(60), table=table) == "1"
    new = tmp_path / "new"
    new.mkdir()
    for n in range(6):
        (new / f"{n}.ppm").write_bytes(registered.picture(registered.CLASSES[n % 3], 20_000 + n))
    watch = ("monitor", str(new), "--model", f"models:/{name}@champion", "--label", "6")
    assert main([*watch]) == 1
    assert f"{name} has no alias champion" in capsys.readouterr().err
    assert ask(name).promoted
    assert main([*watch]) == 0
    said = capsys.readouterr().out
    assert f"{name} version 1 on 6 new images: expected accuracy" in said
    assert "100.0% on its 10 validation images" in said
    answers = pd.read_csv("artifacts/monitor/images.csv").sort_values("path")
    assert list(answers["predicted"]) == ["blue", "green", "red"] * 2
    assert "Not measured" in Path("artifacts/monitor/monitor.html").read_text()


def test_test_images_whose_near_duplicates_were_seen_are_left_out(client, champion, tmp_path):
    alike = (
        ("test/blue/0.png", "train/blue/3.png"),
        ("train/green/4.png", "test/green/1.png"),
        ("test/red/2.png", "test/blue/3.png"),  # nobody trained on these
    )
    assert challenge(tmp_path, champion, wrong(20), alike=alike) == "2"
    decision = ask(champion).decision
    left_out = decision.left_out
    assert (left_out.seen_by_challenger, left_out.seen_by_champion, left_out.seen) == (2, 2, 2)
    assert decision.images == registered.TESTS - 2
    changed = {image.path for image in (*decision.newly_right, *decision.newly_wrong)}
    assert len(changed) == 40
    assert not changed & {"test/blue/0.png", "test/green/1.png"}


def test_the_commands_end_with_0_promoted_2_refused_1_error(client, champion, tmp_path, capsys):
    def command(*arguments, code):
        capsys.readouterr()
        assert main([*arguments, "--model", champion]) == code
        printed = capsys.readouterr()
        return printed.out + printed.err

    (tmp_path / "params.yaml").write_text(re.sub("latency_ratio: .*", "latency_ratio: 1000.0", PARAMS.read_text()))
    assert command("promote", code=1).count("\n") == 2
    challenge(tmp_path, champion, wrong(90))
    assert "Version 2 does not replace version 1" in command("promote", "--why", "try it", code=2)
    registered.register(tmp_path, champion, wrong(10), sharpness=0.3)
    command("promote", "--who", "CI", "--why", "it's better", code=0)
    assert alias_journal.aliases(client, champion) == State("3", "1")
    command("rollback", "--why", "regret", code=0)
    assert alias_journal.aliases(client, champion) == State("1", "3")
    output = command("history", code=0)
    assert re.search(r"promotion +1 -> 3 +CI +it's better", output)
    assert re.search(r"rollback +3 -> 1 .* regret", output)
