from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import file_server
import huggingface_hub
import mite
import pytest
import torch
from file_server import Server
from huggingface_hub import errors

from adaptformer.base import files
from adaptformer.base.errors import UserError
from adaptformer.checkpoints import catalogue, download, fetching, source
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
    tensors, card = fetching.fetch(NAMED, server.url + "?download=true", server.sha256, ["apache-2.0"])
    backbone.load_encoder(backbone.build(NAMED), tensors)
    assert (card.origin, card.source_sha256, card.licence) == (server.url, server.sha256, "apache-2.0")


def test_an_address_without_a_hash_is_refused_before_anything_is_asked(server: Server) -> None:
    with pytest.raises(UserError, match="needs a hash") as caught:
        fetching.fetch(NAMED, server.url, None, ANY)
    assert "backbone.sha256" in caught.value.remedy
    assert server.asked == []


def test_no_message_repeats_a_password() -> None:
    for sha256 in (None, "0" * 64):
        with pytest.raises(UserError) as caught:
            source.locate(NAMED, "https://me:secret@example.org/x.pth?key=secret", sha256, ANY)
        assert "secret" not in str(caught.value)


def test_a_licence_that_timm_knows_is_judged_before_the_download(server: Server) -> None:
    with pytest.raises(UserError, match=f"backbone.model = {NAMED} has the licence apache-2.0"):
        fetching.fetch(NAMED, server.url, server.sha256, ["mit"])
    assert server.asked == []


def test_a_hostile_file_runs_nothing(cache: Path, tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> Any:
            return Path.mkdir, (tmp_path / "it ran",)

    file = io.BytesIO()
    torch.save({"model": mite.encoder(), "args": Runs()}, file)
    with file_server.serving(file.getvalue()) as running, pytest.raises(UserError, match="would run code"):
        fetching.fetch(NAMED, running.url, running.sha256, ANY)
    assert not (tmp_path / "it ran").exists()


def test_an_entry_of_the_catalogue_is_fetched_by_its_id(entry: catalogue.Entry, server: Server) -> None:
    card = fetching.fetch(NAMED, "small", None, ["Apache-2.0"])[1]
    assert (card.origin, card.source_sha256) == (server.url, server.sha256)


def test_an_entry_says_which_model_it_is_for(entry: catalogue.Entry, server: Server) -> None:
    with pytest.raises(UserError, match=f"small is made for {NAMED}") as caught:
        source.locate(mite.MODEL, "small", None, ANY)
    assert caught.value.remedy == f"set backbone.model to {NAMED}"
    assert server.asked == []


def test_an_entrys_licence_is_judged_before_the_download(entry: catalogue.Entry, server: Server) -> None:
    with pytest.raises(UserError, match=r"backbone\.checkpoint = small has the licence apache-2\.0"):
        source.locate(NAMED, "small", None, ["mit"])
    assert server.asked == []


def test_an_entry_whose_hash_is_not_known_takes_the_users(
    entry: catalogue.Entry, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "ENTRIES", (dataclasses.replace(entry, sha256=None),))
    with pytest.raises(UserError, match=r"backbone\.checkpoint = small has no known sha256"):
        source.locate(NAMED, "small", None, ANY)
    assert server.asked == []
    assert source.locate(NAMED, "small", server.sha256, ANY).sha256 == server.sha256


def test_mae_huge_needs_the_users_hash() -> None:
    with pytest.raises(UserError, match="has no known sha256") as caught:
        source.locate("vit_huge_patch14_224.mae", "mae_vit_huge", None, ANY)
    assert "backbone.sha256" in caught.value.remedy


def test_the_official_addresses_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(download, "fetch", lambda *arguments: asked.append(arguments) or Path("x"))
    source.locate("vit_base_patch16_224.mae", "mae_vit_base", None, ANY)
    assert asked == [
        (
            "https://dl.fbaipublicfiles.com/mae/pretrain/mae_pretrain_vit_base.pth",
            "aec5f0b68e5f3193a00b07bc65a37440db549c15b36b8bea242606cc40c4bc5d",
        )
    ]


class Hub:
    """Stands for `hf_hub_download`: gives a file, or raises."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.error: Exception | None = None
        self.asked: list[tuple[str, str, str]] = []

    def __call__(self, repo_id: str, filename: str, *, revision: str) -> str:
        self.asked.append((repo_id, filename, revision))
        if self.error:
            raise self.error
        return str(self.path)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The hub itself could not be reached where this was written: its client's one function is replaced."""
    from safetensors.torch import save_file

    save_file(backbone.build(NAMED).state_dict(), tmp_path / "model.safetensors", {"format": "pt"})
    stand_in = Hub(tmp_path / "model.safetensors")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", stand_in)
    return stand_in


@pytest.mark.parametrize("name", [NAMED, f"timm/{NAMED}"])
def test_a_pinned_file_of_the_hub_becomes_a_backbone(hub: Hub, name: str) -> None:
    card = fetching.fetch(NAMED, f"hub:{name}@{COMMIT}", None, ["apache-2.0"])[1]
    assert hub.asked == [(f"timm/{NAMED}", "model.safetensors", COMMIT)]
    assert (card.origin, card.source_sha256) == (f"hub:timm/{NAMED}@{COMMIT}", files.sha256_file(hub.path))


def test_a_branch_of_the_hub_needs_a_hash_which_is_verified(hub: Hub) -> None:
    with pytest.raises(UserError, match="may change"):
        fetching.fetch(NAMED, f"hub:{NAMED}@main", None, ANY)
    assert hub.asked == []
    assert fetching.fetch(NAMED, f"hub:{NAMED}@main", files.sha256_file(hub.path), ANY)
    with pytest.raises(UserError, match="has sha256"):
        fetching.fetch(NAMED, f"hub:{NAMED}@main", "0" * 64, ANY)


@pytest.mark.parametrize("address", [f"hub:{NAMED}", f"hub:{NAMED}@", "hub:@main", "hub:a/b/c@main", "hub:a b@main"])
def test_an_address_of_the_hub_that_lacks_a_part_is_refused(hub: Hub, address: str) -> None:
    with pytest.raises(UserError, match="is not a pinned hub address"):
        source.locate(NAMED, address, "0" * 64, ANY)
    assert hub.asked == []


def response(kind: type[errors.HfHubHTTPError]) -> Exception:
    error = kind.__new__(kind)
    error.args = ("401 Client Error.\n\nRepository Not Found",)
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (response(errors.GatedRepoError), "accepted its terms"),
        (response(errors.RepositoryNotFoundError), f"the hub has no timm/{NAMED}"),
        (response(errors.RevisionNotFoundError), f"has no revision {COMMIT}"),
        (errors.LocalEntryNotFoundError("no network\nat all"), "the hub cannot be reached"),
        (errors.OfflineModeIsEnabled("offline"), "the hub cannot be reached"),
        (errors.EntryNotFoundError("404"), "has no model.safetensors"),
        (RuntimeError("some\nthing"), "could not be fetched from the hub: some thing"),
    ],
)
def test_what_the_hub_refuses_is_one_line_of_cause_and_one_of_cure(hub: Hub, error: Exception, words: str) -> None:
    hub.error = error
    with pytest.raises(UserError, match=words) as caught:
        source.locate(NAMED, f"hub:{NAMED}@{COMMIT}", None, ANY)
    assert "\n" not in caught.value.cause + caught.value.remedy


def test_a_bundled_file_that_was_altered_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = "vit_nano_patch4_32"
    found = source.locate(model, source.BUNDLED, None, ANY).path
    content = bytearray(found.read_bytes())
    content[300] ^= 1
    altered = tmp_path / found.name
    altered.write_bytes(content)
    monkeypatch.setattr(source, "_bundled", lambda _: altered)
    with pytest.raises(UserError, match="is not what was written"):
        source.locate(model, source.BUNDLED, None, ANY)
