from __future__ import annotations

import logging
import os
import random
import re
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import file_server
import pytest
from file_server import Server

from adaptformer.backbones import address, download
from adaptformer.base import progress
from adaptformer.base.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
CONTENT = random.Random(0).randbytes(3_000_000)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ADAPTFORMER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server() -> Iterator[Server]:
    with file_server.serving(CONTENT) as running:
        yield running


def finished(cache: Path) -> list[str]:
    return [path.name for path in cache.iterdir() if path.suffix in {".pth", ".safetensors"}]


def test_a_file_is_fetched_once_and_found_again(server: Server, cache: Path) -> None:
    path = download.fetch(server.url, server.sha256)
    assert path == cache / f"{server.sha256}.pth"
    assert path.read_bytes() == CONTENT
    server.status = 500
    assert download.fetch(server.url, server.sha256) == path
    assert server.asked == [None]


def test_a_file_in_the_cache_that_was_damaged_is_fetched_again(server: Server) -> None:
    path = download.fetch(server.url, server.sha256)
    path.write_bytes(CONTENT[:-1])
    assert download.fetch(server.url, server.sha256).read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_a_transfer_that_was_cut_off_goes_on_where_it_stopped(server: Server, cache: Path) -> None:
    server.sends = 1_000_000
    with pytest.raises(UserError, match=r"ended after 1000000 of 3000000 bytes") as caught:
        download.fetch(server.url, server.sha256)
    assert "same command again" in caught.value.remedy
    assert finished(cache) == []
    server.sends = None
    assert download.fetch(server.url, server.sha256).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1000000-"]
    assert [path.suffix for path in cache.iterdir() if path.suffix == ".partial"] == []


def test_a_server_that_ignores_the_range_is_read_from_the_beginning(server: Server) -> None:
    server.sends = 1_000_000
    with pytest.raises(UserError):
        download.fetch(server.url, server.sha256)
    server.sends, server.ignores_range = None, True
    assert download.fetch(server.url, server.sha256).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "answered", ["bytes 500000-2999999/3000000", "bytes 1000001-2999999/3000000", "bytes 0-", "items 3-4/5"]
)
def test_another_part_than_was_requested_is_refused_and_the_partial_file_stays(
    server: Server, cache: Path, answered: str
) -> None:
    server.sends = 1_000_000
    with pytest.raises(UserError):
        download.fetch(server.url, server.sha256)
    server.sends, server.content_range = None, answered
    with pytest.raises(UserError, match="sent a part of the file that was not requested"):
        download.fetch(server.url, server.sha256)
    assert (cache / f"{server.sha256}.partial").read_bytes() == CONTENT[:1_000_000]
    server.content_range = None
    assert download.fetch(server.url, server.sha256).read_bytes() == CONTENT
    assert server.asked == [None, *["bytes=1000000-"] * 2]


@pytest.mark.parametrize("left", [CONTENT, CONTENT + b"more", b"x" * 100, b""])
def test_whatever_an_earlier_transfer_left_the_result_is_right(server: Server, cache: Path, left: bytes) -> None:
    """All bytes but not yet the name; too many; those of another file; none."""
    cache.mkdir()
    (cache / f"{server.sha256}.partial").write_bytes(left)
    assert download.fetch(server.url, server.sha256).read_bytes() == CONTENT


def test_another_hash_is_refused_and_nothing_is_kept(server: Server, cache: Path) -> None:
    with pytest.raises(UserError, match=f"has sha256 {server.sha256}, not {'0' * 64}"):
        download.fetch(server.url, "0" * 64)
    assert [path.name for path in cache.iterdir()] == [f"{'0' * 64}.lock"]


def test_a_transfer_cut_off_by_a_server_that_states_no_size_is_no_finished_file(server: Server, cache: Path) -> None:
    server.says_length, server.sends = False, 1_000_000
    with pytest.raises(UserError, match="has sha256"):
        download.fetch(server.url, server.sha256)
    assert finished(cache) == []


@pytest.mark.parametrize(("status", "words"), [(404, "404 Not Found"), (403, "403 Forbidden"), (503, "503")])
def test_an_error_of_the_server_is_one_line(server: Server, status: int, words: str) -> None:
    server.status = status
    with pytest.raises(UserError, match=f"mae.pth answered {words}") as caught:
        download.fetch(server.url + "?signature=secret", server.sha256)
    assert "\n" not in caught.value.cause
    assert "secret" not in caught.value.cause


def test_a_server_that_is_not_there_is_told_with_the_other_way() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(UserError, match=r"127\.0\.0\.1 cannot be reached: Connection refused") as caught:
        download.fetch(f"http://127.0.0.1:{port}/x.pth", "0" * 64)
    assert "set backbone.checkpoint to its path" in caught.value.remedy


def test_a_name_that_cannot_be_looked_up_is_told() -> None:
    with pytest.raises(UserError, match=r"nowhere\.invalid cannot be reached"):
        download.fetch("https://nowhere.invalid/x.pth", "0" * 64)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/x.pth",
        "ftp://127.0.0.1/x",
        "file:///etc/passwd",
        "http://127.0.0.1.example.org/x",
        "https:///x",
    ],
)
def test_addresses_other_than_https_and_loopback_are_refused(url: str, cache: Path) -> None:
    with pytest.raises(UserError, match="is not an https address"):
        download.fetch(url, "0" * 64)
    assert not cache.exists()


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(UserError, match="holds a user or a password") as caught:
        download.fetch("https://me:secret@example.org/x.pth", "0" * 64)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("target", ["http://example.org/x.pth", "file:///etc/passwd", "ftp://example.org/x"])
def test_a_redirect_to_where_no_download_may_come_from_is_refused(server: Server, cache: Path, target: str) -> None:
    server.redirect = target
    with pytest.raises(UserError) as caught:
        download.fetch(server.url, server.sha256)
    assert "\n" not in caught.value.cause
    assert len(server.asked) == 1
    assert finished(cache) == []


def test_https_never_becomes_http_not_even_to_the_loopback_address() -> None:
    asked = urllib.request.Request("https://example.org/x.pth")
    with pytest.raises(UserError, match=r"redirects to http://127\.0\.0\.1/x\.pth, which is not https"):
        address.Redirects().redirect_request(asked, None, 302, "Found", {}, "http://127.0.0.1/x.pth")


def test_a_redirect_within_the_loopback_address_is_followed(server: Server) -> None:
    with file_server.serving(b"") as first:
        first.redirect = server.url
        assert download.fetch(first.url, server.sha256).read_bytes() == CONTENT


def test_a_loop_of_redirects_is_one_line(server: Server) -> None:
    server.redirect = server.url
    with pytest.raises(UserError, match="answered 302") as caught:
        download.fetch(server.url, server.sha256)
    assert "\n" not in caught.value.cause


def test_a_cache_that_cannot_be_written_is_told(server: Server, cache: Path) -> None:
    cache.write_text("a file")
    with pytest.raises(UserError, match=f"cannot write {re.escape(str(cache))}: ") as caught:
        download.fetch(server.url, server.sha256)
    assert caught.value.remedy.startswith("set ADAPTFORMER_CACHE to another folder, or move away the file")


def test_two_processes_at_once_download_once(server: Server, cache: Path) -> None:
    code = "import sys; from adaptformer.backbones import download; print(download.fetch(*sys.argv[1:]))"
    command = [sys.executable, "-c", code, server.url, server.sha256]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(3)]
    paths = {process.communicate(timeout=60)[0].strip() for process in both}
    assert paths == {str(cache / f"{server.sha256}.pth")}
    assert Path(paths.pop()).read_bytes() == CONTENT
    assert len(server.asked) == 1


def test_a_long_transfer_tells_how_far_it_is(
    server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_SECONDS_BETWEEN_LINES", 0.0)
    with caplog.at_level(logging.INFO, "adaptformer"):
        download.fetch(server.url, server.sha256)
    assert caplog.messages[0] == f"downloading: {server.url}"
    assert caplog.messages[-1].startswith("3 of 3 MB, ")


def test_the_cache_lies_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert download.cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("ADAPTFORMER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert download.cache_folder() == Path("/x/adaptformer")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert download.cache_folder() == Path("/home/me/.cache/adaptformer")


def test_in_a_terminal_a_bar_shows_how_far_it_is(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(progress, "DELAY_SECONDS", 0)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    progress.use("auto")
    download.fetch(server.url, server.sha256)
    shown = capsys.readouterr()
    megabytes = f"{len(server.content) / 1e6:,.0f}"
    assert f"downloading {'━' * 40} {megabytes} of {megabytes} MB, " in re.sub(r"\x1b\[[0-9;]*m", "", shown.err)
    assert shown.out == ""
