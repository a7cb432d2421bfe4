"""Methods side by side: the flow, with a real (temporary) Prefect server, and the command, which needs none."""

import csv
import json

import clones
import pytest

pytestmark = pytest.mark.e2e

METHODS = ("linear", "adaptformer-4 adapter.bottlenecks=[2]")
OPTIONS = [word for method in METHODS for word in ("--method", method)]
WORDS = ("compare", *OPTIONS, "--seed", "0", "training.epochs=1")


@pytest.fixture(scope="module")
def compared(pristine, tmp_path_factory):
    clone = clones.copy(pristine, tmp_path_factory.mktemp("compare"))
    with clone.flow_process() as flow:
        return clone, flow(*WORDS), flow.reads


def test_a_comparison_makes_one_table_and_one_picture(compared):
    clone, output, _ = compared
    (folder,) = (clone.root / "artifacts/comparisons").iterdir()
    assert f"written to artifacts/comparisons/{folder.name}/" in output
    rows = list(csv.DictReader((folder / "comparison.csv").open()))
    assert [row["method"] for row in rows] == list(METHODS)
    assert (folder / "comparison.png").stat().st_size > 5_000
    for row in rows:
        assert row["method"] in output
        assert float(row["memory_mb"]) > 100
        assert float(row["seconds"]) > 0


def test_each_run_of_a_comparison_has_its_folder_and_its_mlflow_run(compared):
    clone = compared[0]
    folders = list((clone.root / "artifacts/runs").iterdir())
    chosen = {tuple(json.loads((f / "params.json").read_text())["adapter"]["bottlenecks"]) for f in folders}
    assert (2,) in chosen
    code = "from mlflow import MlflowClient as C; c = C('sqlite:///mlflow.db'); " + (
        "print(sorted(r.data.tags['comparison'] for r in c.search_runs(['1'], 'tags.comparison != \"\"')))"
    )
    assert str(sorted(METHODS)) in clone.python(code)


def test_a_comparison_writes_nothing_that_dvc_tracks(compared):
    clone = compared[0]
    assert not (clone.root / "dvc.lock").exists()
    names = {path.name for path in (clone.root / "artifacts").iterdir()}
    assert names == {"cache", "runs", "comparisons"}


def test_params_yaml_is_read_once(compared):
    assert compared[2] == 1


def test_the_command_shows_the_same_table_and_does_nothing_again(compared):
    clone, flow_output, _ = compared
    files = {path: path.read_bytes() for path in (clone.root / "artifacts/comparisons").rglob("*.*")}
    output = clone.adaptformer(*WORDS)
    assert "export is current" in output
    assert "train begins" not in output
    table = output[output.index("method ") :]
    assert table in flow_output
    assert {path: path.read_bytes() for path in (clone.root / "artifacts/comparisons").rglob("*.*")} == files


def test_a_method_that_fails_is_two_lines(compared):
    clone = compared[0]
    method = "linear backbone.checkpoint=nowhere.safetensors"
    output = clone.adaptformer("compare", "--method", method, code=1)
    assert "fetch begins" in output
    cause, remedy = output.splitlines()[-2:]
    assert cause.startswith("error: ")
    assert "nowhere.safetensors" in cause
    assert remedy.startswith("  fix: ")
    assert output.count("nowhere.safetensors") == 2  # in the method's name, too


@pytest.mark.parametrize(
    ("method", "error"),
    [
        ("liner", "error: there is no preset liner\n  fix: did you mean linear?\n"),
        ("linear 'x", "error: the method linear 'x cannot be read: No closing quotation"),
        (
            "linear training.seed=3",
            "error: the method linear training.seed=3 sets training.seed, which all methods share",
        ),
    ],
)
def test_a_method_that_cannot_be_resolved_is_refused_before_anything_runs(compared, method, error):
    clone = compared[0]
    output = clone.adaptformer("compare", "--method", method, code=1)
    assert output.startswith(error)
    assert len(output.splitlines()) == 2
