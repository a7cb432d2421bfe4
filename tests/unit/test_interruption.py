import signal
import subprocess
import sys
from pathlib import Path

import pytest

from adaptformer import interruption

BEGIN = """
import hashlib, logging, signal, sys, time
from adaptformer import interruption
with interruption.in_one_line():
    interruption.on_stop("stopped in the middle")
"""
BODIES = {
    # Minutes within one call, in which Python handles no signal.
    "in one long call": """
    print("ready", flush=True)
    hashlib.pbkdf2_hmac('sha256', b'', b'', 2_000_000_000)""",
    "swallowing the exception": """
    while True:
        try:
            print("ready", flush=True)
            time.sleep(600)
        except KeyboardInterrupt:
            print("a library's own words", flush=True)
            logging.error("and its log")""",
    "ending by the exception": """
    print("ready", flush=True)
    time.sleep(600)""",
}


def interrupted(body):
    """Run a body, send SIGINT once it prints "ready", and return its exit code and what it printed afterwards."""
    command = [sys.executable, "-c", BEGIN + body]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=300)
    return process.returncode, printed


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_the_line_is_all_that_is_printed_and_the_process_ends(body):
    assert interrupted(body) == (130, "stopped in the middle\n")


def test_what_the_body_holds_is_released(tmp_path):
    body = f"""
    try:
        print("ready", flush=True)
        time.sleep(600)
    finally:
        open({str(tmp_path / "released")!r}, "w").close()"""
    interrupted(body)
    assert (tmp_path / "released").exists()


def test_a_handler_that_was_there_stays():
    def own(*_):
        raise AssertionError

    before = signal.signal(signal.SIGINT, own)
    try:
        with interruption.in_one_line():
            assert signal.getsignal(signal.SIGINT) is own
    finally:
        signal.signal(signal.SIGINT, before)


def test_afterwards_all_is_as_before():
    before, files = signal.getsignal(signal.SIGINT), len(list(Path("/proc/self/fd").iterdir()))
    with interruption.in_one_line():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
    assert len(list(Path("/proc/self/fd").iterdir())) == files


def test_each_command_begins_without_the_place_of_the_one_before():
    with interruption.in_one_line():
        interruption.on_stop("stopped elsewhere")
    with interruption.in_one_line():
        assert interruption.line() == "stopped; run the same command again to continue"
