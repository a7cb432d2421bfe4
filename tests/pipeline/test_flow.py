"""The flow in its own process, as `make run` starts it: killed once, then run again, then with nothing to do."""

import json
import re
import sys

import pytest
from clones import EPOCHS, TRAIN

from adaptformer.config.run_folder import RunFolder
from adaptformer.pipeline.stages import STAGES

pytestmark = pytest.mark.e2e
OUTPUTS = [str(getattr(RunFolder(), name)) for stage in STAGES.values() for name in stage.outputs]


def test_a_killed_training_leaves_its_state_and_no_half_result(killed):
    left = killed[1]
    assert "resume.safetensors" in left
    assert "manifest.csv" in left
    assert not {"adapter.safetensors", "history.csv", "model.onnx", "registration.json"} & set(left)


def test_the_temporary_server_of_a_killed_flow_ends_with_it(killed):
    servers, alive = killed[2]
    assert len(servers) == 1
    assert alive == []


def test_the_same_command_continues_a_killed_training(flown):
    _, output = flown
    (done,) = re.findall(r"training resumes after epoch (\d+)", output)
    assert 1 <= int(done) < EPOCHS
    assert re.findall(rf"epoch (\d+)/{EPOCHS}:", output) == [str(n) for n in range(int(done) + 1, EPOCHS + 1)]


def test_the_summary_shows_the_results_and_the_paths_of_the_files(flown):
    clone, output = flown
    metrics = json.loads((clone.root / "artifacts/metrics.json").read_text())
    for text in (
        f"{metrics['top1']:.2%} top-1",
        "digits version 1",
        "artifacts/model.onnx",
        "mlflow ui",
        "Prefect",
        " s\n",
    ):
        assert text in output


def test_the_output_is_progress_and_no_noise(flown):
    _, output = flown
    for line in ("validate", "fetch is current", "train begins", "evaluate begins", "export begins"):
        assert line in output
    for noise in ("Traceback", "WARNING", "alembic", "telemetry", "EventsWorker"):
        assert noise not in output


def test_after_a_flow_dvc_is_clean_and_repro_does_nothing(flown):
    clone, _ = flown
    assert "up to date" in clone.run("dvc", "status")
    before = {path: (clone.root / path).stat().st_mtime_ns for path in OUTPUTS}
    output = clone.run("dvc", "repro")
    assert output.count("didn't change, skipping") == len(STAGES) + 1
    assert before == {path: (clone.root / path).stat().st_mtime_ns for path in OUTPUTS}


def test_flow_and_dvc_repro_give_the_same_bytes(flown, reproduced):
    assert flown[0].root != reproduced[0].root
    for clone, _ in (flown, reproduced):
        # Each really trained, with nothing from elsewhere.
        timing = json.loads((clone.root / "artifacts/timing/train.json").read_text())
        assert timing["epochs"] == EPOCHS
        assert clone.run("dvc", "cache", "dir").strip() == str(clone.root / ".dvc/cache")
    differing = [p for p in OUTPUTS if (flown[0].root / p).read_bytes() != (reproduced[0].root / p).read_bytes()]
    assert differing == []


def test_dvc_shows_metrics_and_plots(reproduced):
    clone, _ = reproduced
    assert "top1" in clone.run("dvc", "metrics", "show")
    clone.run("dvc", "plots", "show")
    page = (clone.root / "dvc_plots/index.html").read_text()
    for plot in ("val_loss", "val_top1", "predicted", "curves.png", "examples.png"):
        assert plot in page


def test_a_flow_with_nothing_to_do_imports_neither_prefect_nor_mlflow(flown):
    clone, _ = flown
    output = clone.flow(PYTHONPROFILEIMPORTTIME="1")
    assert "Nothing has changed" in output
    assert "digits version 1" in output
    imported = {line.rpartition("|")[2].strip() for line in output.splitlines() if line.startswith("import time:")}
    assert "adaptformer.config.params" in imported
    assert not {name.split(".")[0] for name in imported} & {"prefect", "mlflow", "torch"}


def test_the_manifest_has_a_row_for_each_image(flown):
    clone, _ = flown
    manifest = (clone.root / "artifacts/manifest.csv").read_text()
    assert manifest.count("train/") == TRAIN


def test_an_experiment_overrides_a_parameter_and_leaves_its_own_results(experimented):
    clone, out = experimented
    assert "Running stage 'train'" in out
    assert "Running stage 'fetch'" not in out
    assert len((clone.root / "artifacts/history.csv").read_text().splitlines()) == 1 + 2
    assert "epochs: 2" in (clone.root / "params.yaml").read_text()
    assert "up to date" in clone.run("dvc", "status")


STALE = """
import sys
from pathlib import Path
from adaptformer.base import source_code
from adaptformer.config.params import load
from adaptformer.config.run_folder import RunFolder
from adaptformer.pipeline.stages import fingerprint
from adaptformer.tracking import dvc_repository

before = fingerprint("train", load(), RunFolder(), "fp32")
for name in sys.argv[2:]:
    path = Path("adaptformer", name)
    content = path.read_bytes()
    path.write_bytes(content + sys.argv[1].encode())
    source_code.sha256.cache_clear()  # as in another process
    current = dvc_repository.is_current("train")
    resumes = fingerprint("train", load(), RunFolder(), "fp32") == before
    path.write_bytes(content)
    print(name, current, resumes)
"""
OUTSIDE_OF_TRAINING = (
    "backbones/download.py", "curation/importing/importing.py", "pages/base.html.j2", "tracking/tracker.py",
    "cli/stages.py", "curation/checks/data_report.py", "evaluation/report.py", "pipeline/stage_runner.py",
    "prediction/predictor.py", "sharding/engines.py",
)  # fmt: skip


def test_only_the_code_of_training_makes_it_stale(reproduced):
    clone, _ = reproduced
    within = ("training/loop.py", "data/decoding.py")
    output = clone.run(sys.executable, "-c", STALE, "\nEDITED = 1", *OUTSIDE_OF_TRAINING, *within)
    expected = [f"{name} True True" for name in OUTSIDE_OF_TRAINING]
    assert output.splitlines() == [*expected, "training/loop.py False False", "data/decoding.py False False"]
    # DVC knows code by its bytes; a state that took hours to compute does not go by comments.
    output = clone.run(sys.executable, "-c", STALE, "# a comment", *within)
    assert output.splitlines() == ["training/loop.py False True", "data/decoding.py False True"]
