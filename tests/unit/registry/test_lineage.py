"""From an image to the versions that saw it, and from a version to what went into it."""

import hashlib
import re

import pytest
import registered

from adaptformer.base.errors import UserError
from adaptformer.registry import alias_journal, lineage


@pytest.fixture
def client(own_client):
    return own_client


@pytest.fixture
def colours(client, tmp_path):
    """Two versions: the second one's data lacks the first test image, and has the second one for validation."""
    table = registered.manifest(tests=6, trained=6)
    registered.register(tmp_path, "colours", set(), table=table)
    changed = table[table["path"] != "test/blue/0.png"].copy()
    changed.loc[changed["path"] == "test/green/1.png", "split"] = "validation"
    registered.register(tmp_path, "colours", set(), sharpness=0.2, table=changed)
    client.set_registered_model_alias("colours", "champion", "1")
    return table


def seen(client, what, *names):
    return [
        (one.model, one.version, one.split, one.path)
        for one in lineage.who_saw(client, names or ("colours",), lineage.image(str(what))).sightings
    ]


def test_an_image_is_found_by_its_bytes_under_whatever_name(client, colours, tmp_path):
    copy = tmp_path / "renamed copy.ppm"
    copy.write_bytes(registered.picture("green", 1))
    wanted = [("colours", "1", "test", "test/green/1.png"), ("colours", "2", "validation", "test/green/1.png")]
    assert seen(client, copy) == wanted
    assert seen(client, hashlib.sha256(copy.read_bytes()).hexdigest().upper()) == wanted


def test_only_versions_that_hold_it_are_named(client, colours, tmp_path):
    image = tmp_path / "blue.ppm"
    image.write_bytes(registered.picture("blue", 0))
    assert seen(client, image) == [("colours", "1", "test", "test/blue/0.png")]


def test_an_image_under_two_paths_is_listed_twice(client, tmp_path):
    table = registered.manifest(tests=3, trained=3)
    table.loc[table["path"] == "train/blue/0.png", "sha256"] = table.loc[table["split"] == "test", "sha256"].iloc[0]
    registered.register(tmp_path, "colours", set(), table=table)
    assert len(seen(client, table.loc[table["split"] == "test", "sha256"].iloc[0])) == 2


def test_the_table_says_what_the_image_was_to_each_version(client, colours):
    found = lineage.who_saw(client, ["colours"], hashlib.sha256(registered.picture("green", 1)).hexdigest())
    text = found.text
    assert re.search(r"colours +1 +champion +test +only judged +green +test/green/1.png", text)
    assert re.search(r"colours +2 +challenger +validation +chose the epoch +green +test/green/1.png", text)


def test_an_image_that_no_version_saw_is_reported_as_such(client, colours):
    text = lineage.who_saw(client, ["colours"], "0" * 64).text
    assert "no version of colours has seen it (2 searched)" in text


def test_all_models_are_searched_but_not_their_journals(client, colours, tmp_path):
    registered.register(tmp_path, "others", set(), sharpness=0.3, table=registered.manifest(tests=3, trained=3))
    alias_journal.settle(client, "colours")
    assert "colours-history" in {found.name for found in client.search_registered_models()}
    assert lineage.models() == ["colours", "others"]
    image = hashlib.sha256(registered.picture("blue", 10_000)).hexdigest()
    assert {name for name, *_ in seen(client, image, *lineage.models())} == {"colours", "others"}


def test_a_version_without_a_manifest_is_said_to_be_unknown(client, colours):
    source = client.get_model_version("colours", "1").source
    client.create_model_version("colours", source, client.create_run("0").info.run_id)
    found = lineage.who_saw(client, ["colours"], "0" * 64)
    assert (found.searched, found.unknown) == (2, ("colours 3",))
    assert "no manifest is kept: colours 3" in found.text
    assert ("images", "no manifest is kept") in lineage.origin(client, "colours", "3").facts


def test_equal_manifests_are_fetched_once(client, colours, tmp_path, monkeypatch):
    registered.register(tmp_path, "colours", set(), sharpness=0.4, table=colours)
    fetched = []
    real = lineage.versions.artifact
    monkeypatch.setattr(lineage.versions, "artifact", lambda *a: fetched.append(a[1]) or real(*a))
    found = lineage.who_saw(client, ["colours"], hashlib.sha256(registered.picture("blue", 0)).hexdigest())
    assert [one.version for one in found.sightings] == ["1", "3"]
    assert len(fetched) == 2


def test_the_origin_of_a_version_is_shown(client, colours):
    version = client.get_model_version("colours", "1")
    client.log_metric(version.run_id, "test_top1", 0.875)
    for key, value in {
        "gate.decision": "passed",
        "gate.checks": "[]",
        "git.dirty": "true",
        "presets": "linear",
    }.items():
        client.set_model_version_tag("colours", "1", key, value)
    alias_journal.settle(client, "colours")
    origin = lineage.origin(client, "colours", "champion")
    assert origin == lineage.origin(client, "colours", "1")
    facts = dict(origin.facts)
    assert facts["git commit"] == f"{'c' * 40}, with changes that were not committed"
    assert facts["images"] == "6 train, 0 validation, 6 test"
    assert (facts["data"], facts["backbone"], facts["its licence"]) == ("d" * 32, "vit_none", "MIT")
    assert (facts["its sha256"], facts["top1"], facts["MLflow run"]) == ("0" * 64, "0.8750", version.run_id)
    assert (facts["gate.decision"], facts["presets"]) == ("passed", "linear")
    assert "champion" in facts["aliases"]
    assert not {"overrides", "gate.checks"} & set(facts)
    assert [move.split(",")[0] for move in origin.moves] == ["outside: version 1 in place of no version"]
    assert "moved: outside: version 1" in origin.text
    assert lineage.origin(client, "colours", "2").moves == ()
    client.set_registered_model_alias("colours", "previous", "2")
    alias_journal.settle(client, "colours")
    assert len(alias_journal.read(client, "colours")) == 2
    assert lineage.origin(client, "colours", "1").moves == origin.moves, "1 stayed in use"


@pytest.mark.parametrize(
    ("what", "cause", "remedy"),
    [
        ("7", "colours has no version 7", "its versions: 1, 2"),
        ("winner", "there is no file winner, and colours has no alias winner", "its aliases: challenger, champion"),
    ],
)
def test_an_unknown_version_is_refused(client, colours, what, cause, remedy):
    assert lineage.image(what) is None
    with pytest.raises(UserError) as caught:
        lineage.origin(client, "colours", what)
    assert (caught.value.cause, caught.value.remedy) == (cause, remedy)


def test_an_unknown_model_is_refused(client):
    for ask in (lambda: lineage.origin(client, "nothing", "1"), lambda: lineage.who_saw(client, ["nothing"], "0" * 64)):
        with pytest.raises(UserError, match="no model nothing is registered"):
            ask()


@pytest.mark.parametrize("what", ["data/none.png", "none.png", "."])
def test_a_missing_file_is_refused(what, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=re.escape(what)):
        lineage.image(what)
