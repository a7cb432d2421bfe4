"""SIGTERM, as a scheduler sends it: one line, exit code 143, no process left, and the same command continues."""

import re
import signal
import sys

import clones
import psutil
import pytest
from clones import tracked_runs

pytestmark = pytest.mark.e2e
LINE = r"stopped after epoch (\d+) of \d+; the same command continues there"


def terminated(process):
    """Send SIGTERM to a process alone; return its exit code, its last line, and what is left of its children."""
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=120)
    _, alive = psutil.wait_procs(children, timeout=60)
    return process.returncode, printed, alive


def test_a_flow_that_is_terminated_is_finished_by_the_next_one_in_the_same_mlflow_run(pristine, tmp_path):
    clone = clones.copy(pristine, tmp_path)
    process = clone.start(sys.executable, "-m", "flows", "run")
    try:
        clones.wait_for(lambda: tracked_runs(clone, "RUNNING"), process, 300)
        code, printed, alive = terminated(process)
    finally:
        clones.kill_group(process)
    assert code == 143, printed
    assert re.fullmatch(LINE, printed.splitlines()[-1])
    assert "Traceback" not in printed
    assert not alive
    # If the machine is too busy to tell MLflow in time, the run stays "running"; the next run finishes it all the same.
    (killed,) = tracked_runs(clone, "KILLED") + tracked_runs(clone, "RUNNING")
    assert "training resumes after epoch" in clone.flow()
    assert tracked_runs(clone, "FINISHED") == [killed]
    assert not tracked_runs(clone, "KILLED") + tracked_runs(clone, "RUNNING")


def test_processes_that_train_together_end_with_the_command(pristine, tmp_path):
    clone = clones.copy(pristine, tmp_path)
    two = ("runtime.processes=2", "training.epochs=400")
    for stage in ("validate", "fetch"):
        clone.adaptformer(stage, two[1])
    process = clone.start(sys.executable, "-m", "adaptformer", "train", *two)
    try:
        clones.wait_for(lambda: list(clone.root.glob("artifacts/runs/*/resume.safetensors")), process, 300)
        code, printed, alive = terminated(process)
    finally:
        clones.kill_group(process)
    assert code == 143, printed
    assert re.fullmatch(LINE, printed.splitlines()[-1])
    assert not alive
