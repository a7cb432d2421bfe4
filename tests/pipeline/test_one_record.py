"""Every way to run the pipeline sees what every other way has done: all ordered pairs of them, in real clones."""

import contextlib
import shutil

import clones
import pytest

from adaptformer.config.run_folder import RunFolder
from adaptformer.pipeline.stages import STAGES

pytestmark = pytest.mark.e2e

OUTPUTS = [str(getattr(RunFolder(), name)) for stage in STAGES.values() for name in stage.outputs]


def repro(clone):
    assert clone.run("dvc", "repro").count("didn't change, skipping") == len(STAGES) + 1


def flow(clone):
    with losing_the_adapter(clone):
        requires_no_stage(clone.flow())


def run(clone):
    with losing_the_adapter(clone):
        requires_no_stage(clone.adaptformer("run"))


def exp_run(clone):
    output = clone.run("dvc", "exp", "run", **clones.IDENTITY)
    assert "Running stage" not in output
    assert output.count("didn't change, skipping") == len(STAGES) + 1


def checkout(clone):
    with losing_the_adapter(clone):
        clone.run("dvc", "checkout")


@contextlib.contextmanager
def losing_the_adapter(clone):
    """Remove one result, which the body has to bring back from DVC's cache."""
    lost = clone.root / "artifacts/adapter.safetensors"
    content = lost.read_bytes()
    lost.unlink()
    yield
    assert lost.read_bytes() == content


def requires_no_stage(output):
    assert "Nothing has changed" in output or "ran nothing: all stages are current" in output
    assert " begins" not in output
    assert "digits version 1" in output


WORK = {
    "dvc repro": lambda clone: clone.run("dvc", "repro"),
    "make run": lambda clone: clone.flow(),
    "adaptformer run": lambda clone: clone.adaptformer("run"),
    "dvc exp run": lambda clone: clone.run("dvc", "exp", "run", **clones.IDENTITY),
    "dvc checkout": lambda clone: clone.run("dvc", "checkout"),
}
"""What makes the results in a clone without any; `dvc checkout` takes them from DVC's cache, where `dvc repro` was."""

SEES = {
    "dvc repro": repro,
    "adaptformer run": run,
    "make run": flow,
    "dvc exp run": exp_run,
    "dvc checkout": checkout,
}
"""Runs a second command, which executes no stage: results are current, and a lost one is in DVC's cache."""


@pytest.fixture(scope="module")
def short(pristine, tmp_path_factory):
    """A clone in which nothing has run and training takes one epoch."""
    clone = clones.copy(pristine, tmp_path_factory.mktemp("short"))
    clone.set_params(epochs=1)
    clone.run("git", "commit", "--quiet", "--all", "--message", "One epoch", **clones.IDENTITY)
    return clone


@pytest.fixture(scope="module")
def cached(short, tmp_path_factory):
    """A clone whose results only DVC's cache holds."""
    clone = clones.copy(short, tmp_path_factory.mktemp("cached"))
    clone.run("dvc", "repro")
    shutil.rmtree(clone.root / "artifacts")
    return clone


def state(clone):
    """When each result was written, but for the one that is lost each time, and DVC's record."""
    times = {path: (clone.root / path).stat().st_mtime_ns for path in OUTPUTS if "adapter" not in path}
    return times, (clone.root / "dvc.lock").read_bytes()


@pytest.mark.parametrize("first", WORK)
def test_each_way_finds_current_what_another_has_done(request, tmp_path, first):
    origin = request.getfixturevalue("cached" if first == "dvc checkout" else "short")
    clone = clones.copy(origin, tmp_path)
    WORK[first](clone)
    before = state(clone)
    for second, sees in SEES.items():
        if second != first:
            sees(clone)
            assert state(clone) == before, second
    assert "up to date" in clone.run("dvc", "status")
