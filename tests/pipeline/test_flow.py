"""The flow in its own process, as `make run` starts it: killed once, then run again, then with nothing to do."""

import json
import re
import time

from clones import EPOCHS, TRAIN

from adaptformer.run_folder import RunFolder
from adaptformer.stages import STAGES

OUTPUTS = [str(getattr(RunFolder(), name)) for stage in STAGES.values() for name in stage.outputs]


def test_a_killed_training_leaves_its_state_and_no_half_result(killed):
    _, left = killed
    assert "resume.safetensors" in left
    assert "manifest.csv" in left
    assert not {"adapter.safetensors", "history.csv", "model.onnx", "registration.json"} & set(left)


def test_the_same_command_goes_on_where_it_was_killed(flown):
    _, output = flown
    (done,) = re.findall(r"training resumes after epoch (\d+)", output)
    assert 1 <= int(done) < EPOCHS
    assert re.findall(rf"epoch (\d+)/{EPOCHS}:", output) == [str(n) for n in range(int(done) + 1, EPOCHS + 1)]


def test_the_summary_says_what_came_out_and_where_to_look(flown):
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


def test_afterwards_dvc_is_clean_and_repro_does_nothing(flown):
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


def test_metrics_and_plots_show(reproduced):
    clone, _ = reproduced
    assert "top1" in clone.run("dvc", "metrics", "show")
    clone.run("dvc", "plots", "show")
    page = (clone.root / "dvc_plots/index.html").read_text()
    for plot in ("val_loss", "val_top1", "predicted", "curves.png", "examples.png"):
        assert plot in page


def test_with_nothing_changed_it_ends_at_once_and_imports_neither_prefect_nor_mlflow(flown):
    clone, _ = flown
    began = time.monotonic()
    output = clone.flow(PYTHONPROFILEIMPORTTIME="1")
    assert time.monotonic() - began < 15
    assert "Nothing has changed" in output
    assert "digits version 1" in output
    imported = {line.rpartition("|")[2].strip() for line in output.splitlines() if line.startswith("import time:")}
    assert "adaptformer.params" in imported
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
