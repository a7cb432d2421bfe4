import signal
import subprocess
import sys
from pathlib import Path

import pytest

from adaptformer.base import interruption

BEGIN = """
import hashlib, logging, signal, sys, time
from adaptformer.base import interruption
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


def interrupted(body, number=signal.SIGINT, begin=BEGIN):
    """Run a body, send a signal once it prints "ready", and return its exit code and what it printed afterwards."""
    command = [sys.executable, "-c", begin + body]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        printed, _ = process.communicate(timeout=300)
    return process.returncode, printed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_the_line_is_all_that_is_printed_and_the_process_ends(body, number):
    assert interrupted(body, number) == (128 + number, "stopped in the middle\n")


PREFECT = """
    def terminated(*_):
        raise SystemExit("words of its own")
    signal.signal(signal.SIGTERM, terminated)
    print("ready", flush=True)
    time.sleep(600)"""


def test_a_handler_that_a_library_sets_in_between_changes_nothing():
    assert interrupted(PREFECT, signal.SIGTERM) == (143, "stopped in the middle\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("after", [False, True])
def test_outside_of_a_command_the_process_ends_at_once_with_the_line(number, after):
    begin = "import time\nfrom adaptformer.base import interruption\ninterruption.at_once()\n"
    begin += "with interruption.in_one_line(): pass\n" if after else ""
    body = "try:\n    print('ready', flush=True)\n    time.sleep(600)\nfinally: print('not reached')"
    printed = "stopped; run the same command again to continue\n"
    assert interrupted(body, number, begin) == (128 + number, printed)


REPORTING = """
import os, sys
from adaptformer.base import interruption
interruption.at_once()
with interruption.in_one_line():
    interruption.too_late()
    os.kill(os.getpid(), int(sys.argv[1]))
    print("the result", flush=True)
os.kill(os.getpid(), int(sys.argv[1]))
with interruption.in_one_line():
    print("the next command", flush=True)
    os.kill(os.getpid(), int(sys.argv[1]))
    print("not reached")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_reports_its_result_is_not_stopped_any_more(number):
    command = [sys.executable, "-c", REPORTING, str(int(number))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "the result\nthe next command\n"
    assert (done.returncode, done.stderr) == (128 + number, "stopped; run the same command again to continue\n")


WHILE_IMPORTING = """
import builtins, os, signal, sys
real, number, name = builtins.__import__, int(sys.argv[1]), sys.argv[2]
def importing(module, *rest):
    if module == name:
        os.kill(os.getpid(), number)
    return real(module, *rest)
builtins.__import__ = importing
sys.argv[1:] = ["params"]
from adaptformer.__main__ import main
sys.exit(main())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("name", ["logging", "pydantic"])
def test_a_command_that_is_stopped_while_it_imports_says_one_line(name, number, tmp_path):
    command = [sys.executable, "-c", WHILE_IMPORTING, str(int(number)), name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (
        128 + number, "", "stopped; run the same command again to continue\n",
    )  # fmt: skip


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


def test_signal_handlers_and_open_files_are_restored():
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
