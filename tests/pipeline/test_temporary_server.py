"""The temporary server ends with the process that started it, however that ends, and with no signal before."""

import os
import signal
import socket
import subprocess
import sys
from unittest import mock

import clones
import psutil
import pytest

from adaptformer.base.errors import UserError
from flows import local, log_filter, temporary_server

OWNER = """
import signal, sys, time
from pathlib import Path
from flows import temporary_server
temporary_server.start(Path(sys.argv[1]))
print("started", flush=True)
signal.signal(signal.SIGINT, lambda *_: print("interrupted", flush=True))
time.sleep(600)
time.sleep(600)
"""


@pytest.fixture
def owned(tmp_path):
    """A process that has started a server, the server, and one that was started like it by another process."""
    owners = [
        subprocess.Popen(
            [sys.executable, "-c", OWNER, str(tmp_path / "log")], cwd=clones.ROOT, stdout=subprocess.PIPE, text=True,
            start_new_session=True, env={**os.environ, "PYTHONPATH": str(clones.ROOT), "PREFECT_HOME": str(tmp_path)},
        )
        for _ in range(2)
    ]  # fmt: skip
    try:
        yield (owners[0], *(server_of(owner) for owner in owners))
    finally:
        for owner in owners:
            clones.kill_group(owner)


def server_of(owner):
    assert owner.stdout.readline() == "started\n"
    (keeper,) = psutil.Process(owner.pid).children()
    clones.wait_for(keeper.children, owner, 120)
    return keeper.children()[0]


@pytest.mark.parametrize("end", ["kill", "terminate"])
def test_only_the_server_of_a_process_that_is_gone_ends(owned, end):
    owner, server, other = owned
    assert server.is_running()
    getattr(owner, end)()
    owner.wait()
    _, alive = psutil.wait_procs([server], timeout=120)
    assert alive == []
    assert other.is_running()


def test_ctrl_c_ends_no_server_whose_process_goes_on(owned):
    owner, server, _ = owned
    os.killpg(owner.pid, signal.SIGINT)
    assert owner.stdout.readline() == "interrupted\n"
    assert os.getsid(server.pid) != os.getsid(owner.pid)
    assert server.is_running()


def test_a_server_that_cannot_start_is_one_error_that_names_its_log(tmp_path, monkeypatch):
    (tmp_path / "uvicorn.py").write_text("raise SystemExit('there is no room')")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{clones.ROOT}")
    log = tmp_path / "logs" / "server.log"
    with pytest.raises(UserError, match="temporary Prefect server fails") as caught:
        temporary_server.wait_for(temporary_server.start(log), log)
    assert str(log) in caught.value.remedy
    assert log.read_text() == "there is no room\n"


def test_each_server_has_a_port_that_no_other_program_can_take(tmp_path, monkeypatch):
    (tmp_path / "uvicorn.py").write_text("import time\ntime.sleep(600)")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{clones.ROOT}")
    monkeypatch.setattr(temporary_server, "keepers", [])  # whose end closes the pipe to the keeper
    address = temporary_server.start(tmp_path / "log").removeprefix("http://").removesuffix("/api").split(":")
    with socket.socket() as taken, pytest.raises(OSError, match="in use"):
        taken.bind((address[0], int(address[1])))


def test_a_run_loads_its_parts_while_the_server_starts(monkeypatch):
    steps = []
    monkeypatch.setattr(temporary_server, "start", lambda *_: steps.append("started") or "http://127.0.0.1:1/api")
    monkeypatch.setattr(temporary_server, "wait_for", lambda *_: steps.append("answers"))
    monkeypatch.setattr(log_filter, "plain_console", lambda: None)
    with mock.patch.dict(os.environ), local.on_temporary_server(meanwhile=lambda: steps.append("loaded")):
        steps.append("body")
    assert steps == ["started", "loaded", "answers", "body"]
