"""Ctrl-C in a terminal: one line that is true, exit code 130, no process left, and the same command continues."""

import os
import re
import signal
import sys

import psutil
import pytest
from terminal import Terminal

pytestmark = pytest.mark.e2e

LINE = r"stopped after epoch (\d+) of 400; the same command continues there"


@pytest.fixture(scope="module")
def long(pristine, tmp_path_factory):
    """A clone whose training takes long, with an environment that make takes for installed."""
    import clones

    clone = clones.copy(pristine, tmp_path_factory.mktemp("long"))
    clone.set_params(epochs=400)
    (clone.root / ".venv").mkdir()
    (clone.root / ".venv/.installed").touch()
    return clone


@pytest.fixture
def start(long):
    """Start a command in a terminal; whatever it leaves is killed."""
    outside = {name: value for name, value in long.environment.items() if not name.startswith(("MAKE", "MFLAGS"))}
    begun = []

    def start(*command):
        terminal = Terminal(command, long.root, outside)
        begun.append(terminal.process)
        return terminal

    yield start
    for process in begun:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def stopped(terminal):
    """Press Ctrl-C; return the lines that it showed, and the processes that are still there a while later."""
    children = psutil.Process(terminal.process.pid).children(recursive=True)
    lines = terminal.ctrl_c()
    _, alive = psutil.wait_procs(children, timeout=60)
    return lines, [process.cmdline() for process in alive]


def test_make_run_ends_with_one_line_and_its_server_with_it(start):
    running = start("make", "run")
    running.wait_for(r"epoch 2/400: .*\n")
    servers = [p for p in psutil.Process(running.process.pid).children(recursive=True) if "uvicorn" in p.cmdline()]
    assert len(servers) == 1
    lines, alive = stopped(running)
    assert len(lines) == 1
    assert int(re.fullmatch(LINE, lines[0])[1]) >= 1  # it was only just logged
    assert alive == []
    assert running.process.returncode == -signal.SIGINT  # of make itself: a shell says 130


def test_a_stage_ends_with_the_epoch_that_the_same_command_continues_after(start):
    run = (sys.executable, "-m", "adaptformer", "train")
    running = start(*run)
    # Not the first epoch: its line is logged a moment before a stop would name it.
    running.wait_for(r"epoch ([2-9]|\d\d+)/400: .*\n")
    (line,), _ = stopped(running)
    assert running.process.returncode == 130
    again = start(*run)
    again.wait_for(r"training resumes after epoch [0-9]+\s")
    resumed = re.search(r"training resumes after epoch (\d+)", again.shown)[1]
    # One more where Ctrl-C fell between the saving of a state and its report.
    assert int(resumed) - int(re.fullmatch(LINE, line)[1]) in {0, 1}
    # Twice: the first epoch's line is logged a moment before a stop would name it.
    again.wait_for(r"epoch \d+/400: .*\n(.*\n)*?.*epoch \d+/400: .*\n")
    (line,), _ = stopped(again)
    assert re.fullmatch(LINE, line)


def test_flows_ends_with_130_while_its_server_starts(start):
    running = start(sys.executable, "-m", "flows", "run")
    running.wait_for(r"Starting the pipeline.*\n")
    lines, alive = stopped(running)
    assert lines == ["stopped; run the same command again to continue"]
    assert alive == []
    assert running.process.returncode == 130


def test_a_comparison_ends_with_the_number_of_its_run(start):
    running = start(sys.executable, "-m", "flows", "compare", "--method", "linear", "training.epochs=400")
    running.wait_for(r"epoch 1/400: .*\n")
    lines, alive = stopped(running)
    assert lines == ["stopped in run 1 of 1; the same command continues there"]
    assert alive == []
    assert running.process.returncode == 130
