from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import file_server
import mite
import pytest
import torch
from file_server import Server

from adaptformer.backbones import catalogue, download, source
from adaptformer.base.errors import UserError
from adaptformer.model import backbone

NAMED = "test_vit.r160_in1k"  # small published weights whose licence, Apache-2.0, and normalisation timm knows
COMMIT = "0123456789abcdef0123456789abcdef01234567"
ANY = ("mit", "apache-2.0", "cc-by-nc-4.0")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ADAPTFORMER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server() -> Iterator[Server]:
    """The named weights in the official MAE layout, decoder included."""
    decoder = {"mask_token": torch.zeros(1, 1, 4), "decoder_embed.weight": torch.zeros(4, 4)}
    file = io.BytesIO()
    torch.save({"model": {**backbone.build(NAMED).state_dict(), **decoder}}, file)
    with file_server.serving(file.getvalue()) as running:
        yield running


@pytest.fixture
def entry(server: Server, monkeypatch: pytest.MonkeyPatch) -> catalogue.Entry:
    """A catalogue whose only entry lies on the loopback server."""
    base = catalogue.find("mae_vit_base")
    assert base is not None
    small = dataclasses.replace(
        base, id="small", model=NAMED, licence="apache-2.0", source=server.url, sha256=server.sha256
    )
    monkeypatch.setattr(catalogue, "ENTRIES", (small,))
    return small


def test_an_address_with_its_hash_becomes_a_backbone(server: Server) -> None:
    tensors, card = mite.fetched(
        NAMED, server.url + "?download=true", server.sha256, ["apache-2.0"], licence="apache-2.0"
    )
    backbone.load_encoder(backbone.build(NAMED), tensors)
    assert (card.origin, card.source_sha256, card.licence) == (server.url, server.sha256, "apache-2.0")


def test_an_address_without_a_hash_is_refused_before_anything_is_asked(server: Server) -> None:
    with pytest.raises(UserError, match="needs a hash") as caught:
        mite.fetched(NAMED, server.url, None, ANY)
    assert "backbone.sha256" in caught.value.remedy
    assert server.asked == []


def test_no_message_repeats_a_password() -> None:
    for sha256 in (None, "0" * 64):
        with pytest.raises(UserError) as caught:
            source.locate(mite.wanted(NAMED, "https://me:secret@example.org/x.pth?key=secret", sha256, ANY))
        assert "secret" not in str(caught.value)


def test_a_claimed_licence_is_judged_before_the_download(server: Server) -> None:
    with pytest.raises(UserError, match=r"has the licence gpl, which backbone\.allowed_licences"):
        mite.fetched(NAMED, server.url, server.sha256, ["mit"], licence="gpl")
    assert server.asked == []


def test_an_address_whose_hash_the_catalogue_has_gets_the_licence_of_the_catalogue(
    entry: catalogue.Entry, server: Server
) -> None:
    with pytest.raises(UserError, match=r"has the licence apache-2\.0"):
        mite.fetched(NAMED, server.url, server.sha256, ["mit"])
    assert server.asked == []
    card = mite.fetched(NAMED, server.url, server.sha256, ["apache-2.0"])[1]
    assert (card.licence, card.note.partition(";")[0]) == ("apache-2.0", "licence stated by the catalogue")


def test_offline_a_file_is_taken_from_the_cache_or_refused(
    entry: catalogue.Entry, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="downloads are switched off") as caught:
        mite.fetched(NAMED, "small")
    assert "--offline" in caught.value.remedy
    assert server.asked == []
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    first = mite.fetched(NAMED, "small")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert mite.fetched(NAMED, "small")[1] == first[1]
    assert len(server.asked) == 1


def test_a_hostile_file_runs_nothing(cache: Path, tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> Any:
            return Path.mkdir, (tmp_path / "it ran",)

    file = io.BytesIO()
    torch.save({"model": mite.encoder(), "args": Runs()}, file)
    with file_server.serving(file.getvalue()) as running, pytest.raises(UserError, match="would run code"):
        mite.fetched(NAMED, running.url, running.sha256, ANY)
    assert not (tmp_path / "it ran").exists()


def test_an_entry_of_the_catalogue_is_fetched_by_its_id(entry: catalogue.Entry, server: Server) -> None:
    card = mite.fetched(NAMED, "small", None, ["Apache-2.0"])[1]
    assert (card.origin, card.source_sha256) == (server.url, server.sha256)


def test_an_entry_says_which_model_it_is_for(entry: catalogue.Entry, server: Server) -> None:
    with pytest.raises(UserError, match=f"small is made for {NAMED}") as caught:
        source.locate(mite.wanted(mite.MODEL, "small", None, ANY))
    assert caught.value.remedy == f"set backbone.model to {NAMED}"
    assert server.asked == []


def test_an_entrys_licence_is_judged_before_the_download(entry: catalogue.Entry, server: Server) -> None:
    with pytest.raises(UserError, match=r"backbone\.checkpoint = small has the licence apache-2\.0"):
        source.locate(mite.wanted(NAMED, "small", None, ["mit"]))
    assert server.asked == []


def test_the_official_addresses_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(download, "fetch", lambda *arguments: asked.append(arguments) or Path("x"))
    source.locate(mite.wanted("vit_base_patch16_224.mae", "mae_vit_base", None, ANY))
    assert asked == [
        (
            "https://dl.fbaipublicfiles.com/mae/pretrain/mae_pretrain_vit_base.pth",
            "aec5f0b68e5f3193a00b07bc65a37440db549c15b36b8bea242606cc40c4bc5d",
        )
    ]


def test_a_bundled_file_other_than_the_catalogues_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    other = dataclasses.replace(catalogue.ENTRIES[0], sha256="0" * 64)
    monkeypatch.setattr(catalogue, "ENTRIES", (other,))
    with pytest.raises(UserError, match="is not what was written"):
        source.locate(mite.wanted("vit_nano_patch4_32", source.BUNDLED, None, ANY))
