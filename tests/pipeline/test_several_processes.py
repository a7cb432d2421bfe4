"""`adaptformer train runtime.processes=2`: torchrun's processes behind the same command."""

import csv
import json
import sys

import clones
import psutil
import pytest

pytestmark = pytest.mark.e2e

STATE = "artifacts/runs/*/resume.safetensors"
TWO = ("runtime.processes=2", "training.epochs=12")


@pytest.fixture(scope="module")
def prepared(pristine, tmp_path_factory):
    """A clone in which training can begin."""
    clone = clones.copy(pristine, tmp_path_factory.mktemp("processes"))
    for stage in ("validate", "fetch"):
        clone.adaptformer(stage, TWO[1])
    return clone


@pytest.fixture(scope="module")
def trained(prepared, tmp_path_factory):
    """A clone that two processes trained in undisturbed, and what was printed."""
    clone = clones.copy(prepared, tmp_path_factory.mktemp("undisturbed"))
    return clone, clone.adaptformer("train", *TWO)


def run_folder(clone):
    (folder,) = (clone.root / "artifacts/runs").iterdir()
    return folder


def test_epochs_and_figures_are_those_of_one_training(trained, prepared, tmp_path):
    clone, printed = trained
    assert ", 2 processes" in printed
    assert printed.count("epoch 12/12: ") == 1
    alone = clones.copy(prepared, tmp_path)
    alone.adaptformer("train", TWO[1])
    for row, expected in zip(*(read(run_folder(one) / "history.csv") for one in (clone, alone)), strict=True):
        assert row == pytest.approx(expected, abs=1e-4)
    assert json.loads((run_folder(clone) / "timing/train.json").read_text())["processes"] == 2
    assert not list(run_folder(clone).glob("resume*"))
    assert "exitcode" not in (run_folder(clone) / "timing/processes.log").read_text()


def read(path):
    return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(path.open())]


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_killed_process_is_started_again_and_the_bytes_are_the_same(rank, trained, prepared, tmp_path):
    clone, temporary = clones.copy(prepared, tmp_path), tmp_path / "temporary"
    temporary.mkdir()
    process = clone.start(sys.executable, "-m", "adaptformer", "train", *TWO, TMPDIR=str(temporary))
    try:
        clones.wait_for(lambda: list(clone.root.glob(STATE)), process, 120)
        (victim,) = [child for child in psutil.Process(process.pid).children(recursive=True) if is_rank(child, rank)]
        victim.kill()
        printed, _ = process.communicate(timeout=240)
    finally:
        clones.kill_group(process)
    assert process.returncode == 0, printed
    assert "training resumes after epoch" in printed
    assert not list(temporary.iterdir())
    for name in ("adapter.safetensors", "history.csv"):
        assert (run_folder(clone) / name).read_bytes() == (run_folder(trained[0]) / name).read_bytes()


def is_rank(process, rank):
    try:
        return process.environ().get("RANK") == rank
    except psutil.Error:
        return False


def test_the_processes_end_with_the_command(prepared, tmp_path):
    clone = clones.copy(prepared, tmp_path)
    process = clone.start(sys.executable, "-m", "adaptformer", "train", *TWO)
    try:
        clones.wait_for(lambda: list(clone.root.glob(STATE)), process, 120)
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 3
        process.kill()  # the command alone, and in a way that it cannot notice
        _, alive = psutil.wait_procs(children, timeout=60)
        assert not alive
    finally:
        clones.kill_group(process)


def test_a_fault_of_the_training_is_two_lines(prepared, tmp_path):
    clone = clones.copy(prepared, tmp_path)
    clone.adaptformer("validate", *TWO, "training.gradient_accumulation=32")
    clone.adaptformer("fetch", *TWO, "training.gradient_accumulation=32")
    printed = clone.adaptformer("train", *TWO, "training.gradient_accumulation=32", code=1)
    assert "training.gradient_accumulation = 32 makes micro-batches of one image" in printed
    assert "Traceback" not in printed


def test_two_starts_of_torchrun_train_together(trained, prepared, tmp_path):
    """As on two machines with one folder: the bytes are those of two processes on one."""
    clone = clones.copy(prepared, tmp_path)
    address = f"127.0.0.1:{clones.free_port()}"
    torchrun = (
        sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend",
        "c10d", "--rdzv-endpoint", address, "-m", "adaptformer", "train", TWO[1], "runtime.threads=1",
    )  # fmt: skip
    machines = [clone.start(*torchrun) for _ in range(2)]
    try:
        printed = [machine.communicate(timeout=240)[0] for machine in machines]
    finally:
        for machine in machines:
            clones.kill_group(machine)
    assert [machine.returncode for machine in machines] == [0, 0], printed
    assert sum("epoch 12/12: " in text for text in printed) == 1
    assert sum("train done" in text for text in printed) == 1
    for name in ("adapter.safetensors", "history.csv"):
        assert (run_folder(clone) / name).read_bytes() == (run_folder(trained[0]) / name).read_bytes()
