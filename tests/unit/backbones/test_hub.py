"""Checkpoints of the hub: what is asked, pinned, verified, and how its refusals read."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hub_server
import mite
import pytest
import safetensors.torch
import small_project
import yaml
from hub_server import Hub
from huggingface_hub import constants
from small_project import adaptformer

from adaptformer.backbones import catalogue, hub, source
from adaptformer.base.errors import UserError
from adaptformer.model import backbone

NAMED = "test_vit.r160_in1k"  # small published weights whose normalisation timm knows
COMMIT = "0123456789abcdef0123456789abcdef01234567"
PAGE = b"---\nlicense: apache-2.0\n---\n# a model\n"
FILE = "model.safetensors"
FREE = f"hub:{NAMED}"
PINNED = f"hub:timm/{NAMED}@{COMMIT}"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The named weights and their page at one commit; the hub's own client asks this server and has its own cache."""
    weights = safetensors.torch.save(backbone.build(NAMED).state_dict(), {"format": "pt"})
    with hub_server.serving(f"timm/{NAMED}", COMMIT, {FILE: weights, "README.md": PAGE}) as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", running.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        yield running


@pytest.mark.parametrize("checkpoint", [FREE, f"hub:timm/{NAMED}", f"hub:{NAMED}@main", PINNED])
def test_a_repository_becomes_a_backbone_with_the_licence_of_its_page(server: Hub, checkpoint: str) -> None:
    tensors, card = mite.fetched(NAMED, checkpoint, None, ["apache-2.0"])
    backbone.load_encoder(backbone.build(NAMED), tensors)
    assert (card.origin, card.source_sha256, card.licence) == (PINNED, server.sha256(FILE), "apache-2.0")
    assert card.note == (
        f"licence stated by the repository's page on the hub; normalisation as timm states it for {NAMED}"
    )


def test_what_is_not_pinned_is_printed_with_the_command_that_pins_it(
    server: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "adaptformer"):
        mite.fetched(NAMED, FREE, None)
    sha256 = server.sha256(FILE)
    assert f"hub:timm/{NAMED}@main is {PINNED} now: " in caplog.text
    assert f"sha256 {sha256}, licence apache-2.0" in caplog.text
    words = f"backbone.checkpoint={PINNED} backbone.sha256={sha256} backbone.licence=apache-2.0"
    assert f"`adaptformer params {words} --write` pins these" in caplog.text
    caplog.clear()
    mite.fetched(NAMED, PINNED, sha256)
    assert "--write" not in caplog.text


def test_a_cached_commit_needs_no_network(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    first = mite.fetched(NAMED, PINNED)[1]
    server.asked.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert mite.fetched(NAMED, PINNED)[1] == first
    assert server.asked == []


def test_offline_ends_before_anything_is_asked(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for checkpoint in (FREE, PINNED):
        with pytest.raises(UserError, match="downloads are switched off") as caught:
            mite.fetched(NAMED, checkpoint)
        assert "HF_HUB_OFFLINE" in caught.value.remedy
    assert server.asked == []


def test_without_a_network_the_first_attempt_is_the_last(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    closed = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", closed)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with caplog.at_level(logging.WARNING), pytest.raises(UserError, match="the hub cannot be reached") as caught:
        mite.fetched(NAMED, PINNED, "0" * 64)
    assert "set backbone.checkpoint to its path" in caught.value.remedy
    assert caplog.text == ""


def test_a_hash_that_the_hub_does_not_state_is_refused_before_the_download(server: Hub) -> None:
    for _ in range(2):  # asked, then cached
        with pytest.raises(UserError, match=f"the hub states the sha256 {server.sha256(FILE)}"):
            mite.fetched(NAMED, PINNED, "0" * 64)
        assert ("GET", COMMIT, FILE) not in server.asked
        mite.fetched(NAMED, PINNED)
        server.asked.clear()


def test_bytes_other_than_the_stated_ones_are_downloaded_again_and_then_refused(server: Hub) -> None:
    server.sends[FILE] = server.files[FILE][:-1] + b"x"
    with pytest.raises(UserError, match=f"not {server.sha256(FILE)}"):
        mite.fetched(NAMED, FREE)
    assert [asked for asked in server.asked if asked[0] == "GET" and asked[2] == FILE] == [("GET", COMMIT, FILE)] * 2
    del server.sends[FILE]
    assert mite.fetched(NAMED, FREE)[1].source_sha256 == server.sha256(FILE)


@pytest.mark.parametrize(
    ("page", "licence"),
    [
        (PAGE, "apache-2.0"),
        (b"---\nlicense: other\nlicense_name: dinov3-license\n---\n", "dinov3-license"),
        (b"---\nlicense: [mit, gpl]\n---\n", None),
        (b"---\nlicense: {\n---\n", None),
        (b'---\nlicense: "mit\\n\\e[2J"\n---\n', None),
        (b"# no head\n", None),
        (None, None),
    ],
)
def test_the_licence_is_that_of_the_page(server: Hub, page: bytes | None, licence: str | None) -> None:
    server.files = {name: content for name, content in server.files.items() if name == FILE}
    if page is not None:
        server.files["README.md"] = page
    assert hub.licence(hub.parsed(PINNED)) == licence


def test_an_unknown_licence_is_refused_before_the_download_until_the_user_claims_one(server: Hub) -> None:
    server.files["README.md"] = b"# nothing\n"
    with pytest.raises(UserError, match=f"the licence of backbone.checkpoint = {FREE} is unknown") as caught:
        mite.fetched(NAMED, FREE)
    assert "backbone.licence" in caught.value.remedy
    assert ("GET", COMMIT, FILE) not in server.asked
    card = mite.fetched(NAMED, FREE, licence="MIT")[1]
    assert (card.licence, card.note.partition(";")[0]) == ("MIT", "licence claimed by the user in backbone.licence")


def test_a_repository_of_the_catalogue_has_the_catalogues_licence(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = catalogue.find("mae_vit_base_hub")
    assert entry is not None
    entry = entry.__class__(**{**vars(entry), "source": f"hub:timm/{NAMED}@{'f' * 40}"})
    monkeypatch.setattr(catalogue, "ENTRIES", (entry,))
    with pytest.raises(UserError, match=r"has the licence cc-by-nc-4\.0"):
        mite.fetched(NAMED, FREE, None, ["apache-2.0"])
    assert "catalogue" in mite.fetched(NAMED, FREE, None, ["cc-by-nc-4.0"])[1].note


@pytest.mark.parametrize("address", [f"hub:{NAMED}@", "hub:", "hub:@main", "hub:a/b/c@main", "hub:a b@main"])
def test_an_address_of_another_form_is_refused(server: Hub, address: str) -> None:
    with pytest.raises(UserError, match="is not an address on the hub"):
        mite.fetched(NAMED, address)
    assert server.asked == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"error": "GatedRepo"}, "accepted its terms"),
        ({"error": "RepoNotFound"}, f"the hub has no timm/{NAMED}"),
        ({"error": "RevisionNotFound"}, f"has no revision {COMMIT}"),
        ({"error": "EntryNotFound"}, "has no model.safetensors"),
        ({"error": "500"}, "the hub did not give"),
        ({"commit": "main"}, "the hub states no commit and sha256"),
    ],
)
def test_a_refusal_of_the_hub_is_one_line_of_cause_and_one_of_remedy(
    server: Hub, changes: dict[str, Any], words: str
) -> None:
    for name, value in changes.items():
        setattr(server, name, value)
    with pytest.raises(UserError, match=words) as caught:
        mite.fetched(NAMED, FREE if "commit" in changes else PINNED)
    assert "\n" not in caught.value.cause + caught.value.remedy


def test_only_an_address_without_a_commit_is_pinned(server: Hub) -> None:
    assert source.pinned(mite.wanted(NAMED, FREE)) == {
        "backbone.checkpoint": PINNED,
        "backbone.sha256": server.sha256(FILE),
        "backbone.licence": "apache-2.0",
    }
    assert ("GET", COMMIT, FILE) not in server.asked
    server.asked.clear()
    for checkpoint in (PINNED, "bundled", "mae_vit_base", "x.pth", "https://example.org/x.pth"):
        assert source.pinned(mite.wanted(NAMED, checkpoint)) == {}
    assert server.asked == []


def test_writing_params_pins_the_hubs_commit_hash_and_licence(
    server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # The claim belongs to the checkpoint that params.yaml names now, so the new one does not inherit it.
    project = small_project.write(tmp_path / "project", backbone__licence="cc-by-nc-4.0")
    monkeypatch.chdir(project)
    assert adaptformer("params", "--write", f"backbone.model={NAMED}", f"backbone.checkpoint={FREE}") == 0
    written = yaml.safe_load((project / "params.yaml").read_text())["backbone"]
    assert (written["checkpoint"], written["sha256"], written["licence"]) == (
        PINNED, server.sha256(FILE), "apache-2.0",
    )  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "params.yaml: 4 values changed"
    assert lines[2].split() == ["backbone.checkpoint", "mite.safetensors", "->", PINNED]
    before = (project / "params.yaml").read_bytes()
    assert adaptformer("params", "--write") == 0
    assert capsys.readouterr().out == "params.yaml has these values already\n"
    assert (project / "params.yaml").read_bytes() == before


@pytest.mark.parametrize("command", [["fetch"], ["params", "--write"]])
def test_a_command_that_stays_offline_asks_nothing(
    server: Hub, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(small_project.write(tmp_path / "project"))
    assert adaptformer(*command, "--offline", f"backbone.checkpoint={FREE}") == 1
    told = capsys.readouterr().err
    assert "error: model.safetensors of" in told
    assert "--offline" in told
    assert server.asked == []


def test_the_list_says_what_is_cached(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = catalogue.find("augreg_vit_small")
    assert entry is not None
    monkeypatch.setattr(catalogue, "ENTRIES", (entry.__class__(**{**vars(entry), "source": PINNED}),))
    assert catalogue.table().splitlines()[1].endswith("88 MB  no")
    mite.fetched(NAMED, PINNED)
    assert catalogue.table().splitlines()[1].endswith("88 MB  yes")
