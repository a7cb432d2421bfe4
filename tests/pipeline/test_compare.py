"""Methods side by side, in this process, with a real (temporary) Prefect server and MLflow's database."""

import csv
import json
import sys

import clones
import pytest

METHODS = ("linear", "adaptformer-4 adapter.bottlenecks=[2]")
OPTIONS = [word for method in METHODS for word in ("--method", method)]
COMMAND = (sys.executable, "-m", "flows", "compare", *OPTIONS, "--seed", "0", "tuning.epochs=1")


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    clone = clones.make(tmp_path_factory.mktemp("compare"))
    return clone, clone.run(*COMMAND)


def test_there_is_one_table_and_one_picture(compared):
    clone, output = compared
    (folder,) = (clone.root / "artifacts/comparisons").iterdir()
    assert f"written to artifacts/comparisons/{folder.name}/" in output
    rows = list(csv.DictReader((folder / "comparison.csv").open()))
    assert [row["method"] for row in rows] == list(METHODS)
    assert (folder / "comparison.png").stat().st_size > 5_000
    for row in rows:
        assert row["method"] in output
        assert float(row["memory_mb"]) > 100
        assert float(row["seconds"]) > 0


def test_each_run_has_its_folder_and_its_mlflow_run(compared):
    clone, _ = compared
    folders = list((clone.root / "artifacts/runs").iterdir())
    chosen = {tuple(json.loads((f / "params.json").read_text())["adapter"]["bottlenecks"]) for f in folders}
    assert (2,) in chosen
    code = "from mlflow import MlflowClient as C; c = C('sqlite:///mlflow.db'); " + (
        "print(sorted(r.data.tags['comparison'] for r in c.search_runs(['1'], 'tags.comparison != \"\"')))"
    )
    assert str(sorted(METHODS)) in clone.python(code)


def test_nothing_is_written_where_dvc_keeps_its_record(compared):
    clone, _ = compared
    assert not (clone.root / "dvc.lock").exists()
    names = {path.name for path in (clone.root / "artifacts").iterdir()}
    assert names == {"runs", "comparisons"}


def test_what_is_done_is_not_done_again(compared):
    clone, _ = compared
    output = clone.run(*COMMAND)
    assert "train begins" not in output
    assert "written to artifacts/comparisons/" in output


def test_a_method_that_is_no_preset_is_refused_before_anything_runs(compared):
    clone, _ = compared
    output = clone.run(sys.executable, "-m", "flows", "compare", "--method", "liner", code=1)
    assert "error: there is no preset liner\n  fix: did you mean linear?" in output
    assert "train begins" not in output


def test_a_method_that_cannot_be_read_is_two_lines(compared):
    clone, _ = compared
    output = clone.run(sys.executable, "-m", "flows", "compare", "--method", "linear 'x", code=1)
    assert "error: the method linear 'x cannot be read: No closing quotation" in output
    assert "Traceback" not in output
