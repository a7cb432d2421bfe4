"""The temporary server ends when the process that started it is killed, and no other server does."""

import os
import subprocess
import sys

import clones
import psutil
import pytest

SERVER = (sys.executable, "-c", "import time; time.sleep(600)", "uvicorn")
OWNER = f"""
import subprocess, time
from flows import server_watchdog
before = subprocess.Popen({SERVER!r})
server_watchdog.start()
server = subprocess.Popen({SERVER!r})
other = subprocess.Popen({(*SERVER[:3], "another program")!r})
print(before.pid, server.pid, other.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def owned():
    """A process that started a watchdog and three others: a server before it, one after it, and no server."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER], cwd=clones.ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(clones.ROOT)},
    )  # fmt: skip
    try:
        yield owner, [psutil.Process(int(pid)) for pid in owner.stdout.readline().split()]
    finally:
        clones.kill_group(owner)


@pytest.mark.parametrize("end", ["kill", "terminate"])
def test_only_the_servers_of_a_process_that_is_gone_end(owned, end):
    owner, (before, server, other) = owned
    assert server.is_running()
    getattr(owner, end)()
    owner.wait()
    _, alive = psutil.wait_procs([server], timeout=120)
    assert alive == []
    assert before.is_running()
    assert other.is_running()


def test_a_server_runs_on_as_long_as_its_process(owned):
    owner, (_, server, _) = owned
    (watchdog,) = [
        child for child in psutil.Process(owner.pid).children() if "flows.server_watchdog" in child.cmdline()
    ]
    assert watchdog.is_running()
    assert server.is_running()
    # In another session, so that a signal to the group of its process leaves it to its work.
    assert os.getsid(watchdog.pid) != os.getsid(owner.pid)
