"""What stops a run: one line of cause, one of what to do, exit code 1, and nothing recorded that is not so."""

import shutil
import sys
from pathlib import Path

import clones
import pytest

from adaptformer.base.errors import UserError
from adaptformer.config.params import load
from adaptformer.config.run_folder import RunFolder
from adaptformer.curation.importing.sample import DVC_DIGEST
from adaptformer.pipeline import stage_runner
from adaptformer.tracking import dvc_repository
from flows.local import make_sample_if_missing

pytestmark = pytest.mark.e2e
HOLD = (
    "import time\nfrom {module} import {name}\nwith {name}{call}:\n    print('held', flush=True)\n    time.sleep(300)\n"
)


@pytest.fixture(scope="module")
def clone(pristine, tmp_path_factory):
    """A clone for all tests of this file; each leaves it as it found it."""
    return clones.copy(pristine, tmp_path_factory.mktemp("refusals"))


def fault(output):
    """The two lines that a user sees, and nothing like a traceback beside them."""
    lines = output.rstrip().splitlines()
    assert "Traceback" not in output
    assert [n for n, line in enumerate(lines) if line.startswith("error: ")] == [len(lines) - 2]
    assert lines[-1].startswith("  fix: ")
    return lines[-2].removeprefix("error: "), lines[-1].removeprefix("  fix: ")


@pytest.fixture(scope="module")
def flow(clone):
    with clone.flow_process() as flow:
        yield flow


@pytest.fixture
def holder(clone):
    """Start a process in the clone that holds a lock, and end it after the test."""
    started = []

    def start(code):
        process = clone.start(sys.executable, "-c", code)
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        clones.kill_group(process)


def test_a_flow_refuses_changed_data(clone):
    added = clone.root / "data/train/0/added.png"
    shutil.copy2(next((clone.root / "data/train/0").iterdir()), added)
    try:
        assert fault(clone.flow(code=1)) == ("data/ has changed since it was recorded", "run `dvc add data`")
    finally:
        added.unlink()


def test_a_flow_refuses_missing_data(clone, flow):
    (clone.root / "data").rename(clone.root / "elsewhere")
    try:
        cause, remedy = fault(flow("run", code=1))
    finally:
        (clone.root / "elsewhere").rename(clone.root / "data")
    assert cause == "data/ is missing"
    assert "dvc checkout" in remedy


def test_a_flow_refuses_data_without_a_record(clone, flow):
    record = clone.root / "data.dvc"
    content = record.read_text()
    record.unlink()
    try:
        assert fault(flow("run", code=1))[0] == "there is no data.dvc"
    finally:
        record.write_text(content)


def test_a_flow_refuses_an_unknown_parameter(clone, flow):
    clone.set_params(epochs="3\n  epoch: 3")
    try:
        cause, remedy = fault(flow("run", code=1))
    finally:
        clone.run("git", "checkout", "--", "params.yaml")
    assert "unknown key training.epoch" in cause
    assert remedy == "did you mean training.epochs?"


def test_a_failed_stage_is_reported_once_and_not_recorded(clone, flow, pristine):
    clone.set_params(checkpoint="nowhere.safetensors")
    try:
        output = flow("run", code=1)
        assert "nowhere.safetensors" in fault(output)[0]
        assert output.count("nowhere.safetensors") == 1
        assert not (clone.root / "artifacts/backbone.safetensors").exists()
        status = clone.run("dvc", "status")
        assert "fetch:" in status
        assert "validate:" not in status
        assert (clone.root / "mlflow.db").read_bytes() == (pristine.root / "mlflow.db").read_bytes()
    finally:
        clone.run("git", "checkout", "--", "params.yaml")


def test_a_flow_refuses_a_run_folder_in_use(clone, holder, flow):
    process = holder(
        HOLD.format(module="adaptformer.config.run_folder", name="RunFolder", call="().lock('adaptformer train')")
    )
    cause, _ = fault(flow("run", code=1))
    assert cause.startswith(f"artifacts/ is in use by `adaptformer train` (process {process.pid} ")


def test_dvc_repro_beside_a_flow_stops_before_it_deletes_anything(clone, holder):
    manifest = clone.root / "artifacts/manifest.csv"
    manifest.parent.mkdir(exist_ok=True)
    manifest.write_text("half a run\n")
    process = holder(HOLD.format(module="adaptformer.tracking.dvc_repository", name="exclusive", call="()"))
    output = clone.run("dvc", "repro", code=255)
    assert f"(PID {process.pid})" in output
    assert manifest.read_text() == "half a run\n"


def test_a_flow_beside_another_dvc_process_names_it(clone, holder, flow):
    process = holder(HOLD.format(module="adaptformer.tracking.dvc_repository", name="exclusive", call="()"))
    cause, _ = fault(flow("run", code=1))
    assert cause.startswith("DVC is busy with ")
    assert f"(process {process.pid})" in cause


@pytest.fixture
def inside(project, monkeypatch):
    """A clone of the test's own, in which this process stands, as a flow does."""
    monkeypatch.chdir(project.root)
    return project


def validate(params):
    stage_runner.run("validate", params, RunFolder())


def record(body, before=lambda: None):
    """Run `body` in place of a flow's stage `validate`, and `before` when the flow has looked at its inputs."""
    with dvc_repository.exclusive():
        sources = dvc_repository.source_fingerprints(["validate"])["validate"]
        before()
        with dvc_repository.recorded("validate", sources):
            body()


@pytest.mark.parametrize(
    ("when", "what"),
    [("body", "params.yaml"), ("before", "params.yaml"), ("body", "data"), ("body", "adaptformer/pages")],
)
def test_a_stage_whose_inputs_change_during_the_run_is_not_recorded(inside, when, what):
    files = {"data": "data/train/0/0.png", "adaptformer/pages": "adaptformer/pages/base.html.j2"}
    path = Path(files.get(what, what))
    params = load()

    def change():
        path.write_bytes(path.read_bytes().replace(b"seed: 0", b"seed: 1") + b"# more")

    steps = {"body": (lambda: (validate(params), change()),), "before": (lambda: validate(params), change)}
    with pytest.raises(UserError, match=f"inputs changed while the run was going: {what} "):
        record(*steps[when])
    assert not (inside.root / "dvc.lock").exists()


def test_a_stage_whose_output_vanishes_is_an_error_and_not_recorded(inside):
    with pytest.raises(UserError, match=r"artifacts/manifest.csv.*another process"):
        record(lambda: (validate(load()), RunFolder().manifest.unlink()))
    assert not (inside.root / "dvc.lock").exists()


def test_a_stage_whose_inputs_did_not_change_is_recorded(inside):
    # The tests above could pass because nothing is ever recorded like this.
    record(lambda: validate(load()))
    assert "validate:" in (inside.root / "dvc.lock").read_text()
    assert "validate:" not in inside.run("dvc", "status")


def test_the_sample_is_written_where_data_dvc_names_it_and_only_there(inside, capfd):
    def make():
        make_sample_if_missing(RunFolder())
        return capfd.readouterr().out

    assert "Writing" not in make()
    shutil.rmtree("data")
    assert "Writing" not in make()
    assert not Path("data").exists(), "data.dvc names the user's own data"
    Path("data.dvc").write_text(f"outs:\n- md5: {DVC_DIGEST}\n  hash: md5\n  path: data\n")
    assert "Writing the sample" in make()
    assert "up to date" in inside.run("dvc", "status", "data.dvc")
