"""The five stages through the command line, on a project small enough to go through all of them in seconds."""

from __future__ import annotations

import csv
import html
import io
import json
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import mite
import numpy as np
import pytest
import small_project
import torch
from small_project import adaptformer, results, run_stages, snapshot

from adaptformer.base import files, progress
from adaptformer.base.errors import UserError
from adaptformer.config import params
from adaptformer.config.run_folder import RunFolder
from adaptformer.model import adapter_file, classifier
from adaptformer.pipeline import stage_runner
from adaptformer.pipeline.stages import STAGES
from adaptformer.registry import result_check
from adaptformer.training import history


def test_each_stage_writes_what_the_table_says_and_nothing_else(finished: Path) -> None:
    folder = RunFolder(Path("artifacts"))
    outputs = {str(getattr(folder, name)) for stage in STAGES.values() for name in stage.outputs}
    beside = {str(folder.params), *(str(path(name)) for path in (folder.timing, folder.done) for name in STAGES)}
    present = {name for name in snapshot(finished) if name.startswith("artifacts/")}
    assert {name for name in present if not name.startswith("artifacts/cache/")} == outputs | beside


def test_the_data_are_left_alone(finished: Path, project: Path) -> None:
    assert snapshot(finished / "data") == snapshot(project / "data")


def test_the_model_learnt_the_colours_and_every_file_says_so(finished: Path) -> None:
    folder = RunFolder(finished / "artifacts")
    metrics = json.loads(folder.metrics.read_text())
    rows = history.read(folder.history)
    predictions = list(csv.DictReader(io.StringIO(folder.predictions.read_text())))
    card = adapter_file.read_card(folder.adapter)
    hits = [row["label"] == row["predicted"] for row in predictions]
    assert metrics["top1"] > 0.5
    assert metrics["top1"] == pytest.approx(sum(hits) / 9, abs=1e-6)
    assert metrics["images"] == len(predictions) == 9
    assert [row["path"] for row in predictions] == sorted(row["path"] for row in predictions)
    for row in predictions:
        assert row["sha256"] == files.sha256_file(finished / "data" / row["path"])
    assert "| train | 18 |\n| validation | 3 |\n| test | 9 |" in folder.model_card.read_text()
    assert "  epochs: 2\n" in folder.model_card.read_text()
    assert len(rows) == 2
    assert rows[card.epoch - 1] == max(rows, key=lambda row: (row.val_top1, -row.val_loss))
    assert card.classes == mite.CLASSES
    assert card.trained == mite.adapter_card().trained
    assert (card.image.mean, card.image.std, card.image.size) == (mite.CONTRACT.mean, mite.CONTRACT.std, mite.SIDE)
    assert json.loads(folder.backbone_card.read_text())["sha256"] == card.backbone.sha256
    assert json.loads(folder.parity.read_text())["holds"] is True


def test_the_results_of_a_run_belong_together(finished: Path) -> None:
    result_check.require(RunFolder(finished / "artifacts"))
    metrics = json.loads((finished / "artifacts/metrics.json").read_text())
    assert {"top1", "top5", "loss", "about", "checksum"} <= metrics.keys()


def test_predict_agrees_with_evaluate(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(finished)
    assert adaptformer("predict", "data/test", "--csv", "--top-k", "1", "--device", "cpu") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    judged = list(csv.DictReader(io.StringIO((finished / "artifacts/predictions.csv").read_text())))
    assert [(row["path"].removeprefix("data/"), row["class1"]) for row in rows] == [
        (row["path"], row["predicted"]) for row in judged
    ]
    assert [float(row["probability1"]) for row in rows] == pytest.approx(
        [float(row["confidence"]) for row in judged], abs=1e-5
    )


@pytest.mark.usefixtures("blank_pictures")
@pytest.mark.parametrize("level", ["warn", "none"])
def test_leaks_are_named_wherever_accuracy_is(copied: Path, level: str) -> None:
    small_project.write_params(copied, checks__leaks=level)
    folder = RunFolder()
    judged = list(csv.DictReader(io.StringIO(folder.predictions.read_text())))
    leaked = [row["path"] for row in judged][::4]
    rows = [f"leaks,warn,{path},train/{path.partition('/')[2]},," for path in leaked]
    folder.findings.write_text("\n".join(["kind,level,path,other,detail,fix", *rows]) + "\n")
    run_stages("evaluate")
    metrics = json.loads(folder.metrics.read_text())
    pages = [html.unescape(path.read_text()) for path in (folder.report, folder.model_card)]
    others = [row["label"] == row["predicted"] for row in judged if row["path"] not in leaked]
    if level == "none":
        assert not {"leaked_images", "top1_without_leaks"} & metrics.keys()
        assert all("were not looked for (checks.leaks is none)" in page for page in pages)
    else:
        assert metrics["leaked_images"] == len(leaked) == 3
        assert metrics["top1_without_leaks"] == pytest.approx(np.mean(others), abs=1e-6)
        told = f"; 3 of 9 images are near duplicates of training or validation images; {100 * np.mean(others):.2f} %"
        assert all(told in page for page in pages)


def test_another_run_elsewhere_gives_the_same_bytes(finished: Path, project: Path) -> None:
    run_stages()
    expected, given = results(finished), results(project)
    assert expected.keys() == given.keys()
    assert [name for name in expected if given[name] != expected[name]] == []


def test_results_tell_neither_place_nor_host(finished: Path) -> None:
    for name, content in results(finished).items():
        for trace in (str(finished), str(small_project.ROOT), platform.node() * (len(platform.node()) > 5)):
            assert not trace or trace.encode() not in content, (name, trace)


def test_times_and_host_stand_in_timing(finished: Path) -> None:
    folder = RunFolder(finished / "artifacts")
    for name in STAGES:
        timing = stage_runner.read_timing(folder, name)
        assert timing["seconds"] > 0
        assert timing["peak_memory_mb"] > 50
        assert (timing["host"], timing["python"]) == (platform.node(), platform.python_version())
    training = stage_runner.read_timing(folder, "train")
    assert training["training_seconds"] <= training["seconds"]
    assert (training["epochs"], training["threads"]) == (2, 1)
    assert stage_runner.read_timing(folder, "evaluate")["images"] == 9
    exporting = stage_runner.read_timing(folder, "export")
    assert exporting["megabytes"] == round(folder.model.stat().st_size / 1e6, 3)
    assert min(exporting["latency_ms"], exporting["images_per_second"]) > 0
    assert stage_runner.read_timing(RunFolder(finished / "nowhere"), "train") == {}


KILLED = """
import os, pathlib, signal, mite
from adaptformer.__main__ import main
rename, states = pathlib.Path.replace, []

def killing(self, target):
    states.append(target.name == "resume.safetensors")
    if sum(states) == 2:
        os.kill(os.getpid(), signal.SIGKILL)  # the second epoch's state is written, but not yet in its place
    return rename(self, target)

pathlib.Path.replace = killing
main(["train"])
"""


@pytest.mark.e2e
def test_kill_9_in_training_then_the_same_command_gives_the_same_bytes(
    finished: Path, project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_stages("validate", "fetch")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(Path(mite.__file__).parent), *sys.path])),
    }
    killed = subprocess.run([sys.executable, "-c", KILLED], env=environment, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    folder = RunFolder(project / "artifacts")
    assert not folder.adapter.exists()
    assert [path.name for path in folder.root.glob(".resume*")], "the kill came too early or too late"
    run_stages("train")
    assert "training resumes after epoch 1" in caplog.messages
    assert results(project) == {name: results(finished)[name] for name in results(project)}
    assert {"adapter.safetensors", "history.csv", "plots/curves.png"} <= results(project).keys()
    left = {path.name for path in folder.root.iterdir()} - {path.name for path in (finished / "artifacts").iterdir()}
    assert left == set(), "something of the killed run is left"


class Seen(Exception):  # noqa: N818 - it only ends the stage, and carries what was looked for
    pass


def test_the_params_reach_the_model(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from adaptformer.model import classifier

    def looking(model: str, encoder: object, settings: object, **others: object) -> None:
        raise Seen(model, settings, others)

    monkeypatch.chdir(finished)
    monkeypatch.setattr(classifier, "build", looking)
    loaded = params.load()
    training = loaded.training.model_copy(update={"seed": 5, "drop_path": 0.25})
    with pytest.raises(Seen) as caught:
        STAGES["train"].run(loaded.model_copy(update={"training": training}), RunFolder(), lambda row: None)
    others = {"image_size": mite.SIDE, "classes": 3, "seed": 5, "drop_path": 0.25}
    assert caught.value.args == (mite.MODEL, loaded.adapter, others)


def test_training_crops_photos_by_the_params_and_validation_sees_squares(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adaptformer.training import loop
    from adaptformer.training.run import Run

    def looking(run: Run, on_epoch: object) -> None:
        raise Seen(run)

    monkeypatch.setattr(loop, "train", looking)
    small_project.write_params(project, training__crop_scale=[0.7, 1.0], training__crop_ratio=[0.75, 1.3333])
    run_stages("validate", "fetch")
    with pytest.raises(Seen) as caught:
        STAGES["train"].run(params.load(), RunFolder(), lambda row: None)
    (run,) = caught.value.args
    assert run.data.photos.shapes.tolist() == [[10, 10]] * 18  # as the files are; the model sees 8 x 8
    assert run.data.train.images.shape == (18, 8, 8, 3)
    assert run.data.validation.images.shape == (3, 8, 8, 3)


@pytest.mark.usefixtures("blank_pictures")
def test_rows_are_handed_on_as_they_come(project: Path) -> None:
    run_stages("validate", "fetch")
    told: list[history.EpochRow] = []
    folder = RunFolder()
    stage_runner.run("train", params.load(), folder, told.append)
    assert told == history.read(folder.history)


@pytest.mark.parametrize(
    ("stage", "absent", "first"),
    [
        ("train", "manifest", "validate"),
        ("train", "backbone", "fetch"),
        ("evaluate", "manifest", "validate"),
        ("evaluate", "adapter", "train"),
        ("evaluate", "curves", "train"),
        ("export", "backbone", "fetch"),
        ("export", "adapter", "train"),
    ],
)
def test_a_missing_input_names_the_command_to_run_first(
    project: Path, capsys: pytest.CaptureFixture[str], stage: str, absent: str, first: str
) -> None:
    folder = RunFolder()
    for name in STAGES[stage].inputs:
        if name not in ("data", absent):
            getattr(folder, name).parent.mkdir(parents=True, exist_ok=True)
            getattr(folder, name).touch()
    before = snapshot(project)
    assert adaptformer(stage) == 1
    missing = getattr(folder, absent)
    assert capsys.readouterr().err == f"error: {missing} is missing\n  fix: run `adaptformer {first}` first\n"
    assert snapshot(project) == before


def test_every_input_but_data_is_asked_for() -> None:
    for stage in STAGES.values():
        for name in stage.inputs:
            assert name == "data" or any(name in other.outputs for other in STAGES.values())


@pytest.mark.usefixtures("blank_pictures")
def test_after_a_refused_stage_none_goes_on_with_its_output_of_before(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_stages("validate", "fetch", "train")
    adapter = (project / "artifacts/adapter.safetensors").read_bytes()
    small_project.write_params(project, image__size=mite.SIDE + 1)
    assert adaptformer("train") == 1
    capsys.readouterr()
    for later in ("evaluate", "export"):
        assert adaptformer(later) == 1
        error = capsys.readouterr().err
        assert "`adaptformer train` did not finish when it last ran with them" in error
        assert "run `adaptformer train` first" in error
    assert (project / "artifacts/adapter.safetensors").read_bytes() == adapter
    small_project.write_params(project)  # the values of the adapter that is there
    run_stages("evaluate")
    small_project.write_params(project, backbone__checkpoint="nowhere.safetensors")
    assert adaptformer("fetch") == 1
    capsys.readouterr()
    assert adaptformer("train") == 1
    assert "run `adaptformer fetch` first" in capsys.readouterr().err


@pytest.mark.usefixtures("blank_pictures")
@pytest.mark.parametrize(("batch_size", "expected"), [(4, [4, 4, 1]), (100, [9])])
def test_evaluation_sees_as_many_images_at_once_as_it_is_told(
    finished: Path, copied: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int, expected: list[int]
) -> None:
    small_project.write_params(copied, evaluation__batch_size=batch_size)
    seen: list[int] = []
    true = classifier.Classifier.forward

    def noting(self: classifier.Classifier, images: torch.Tensor) -> torch.Tensor:
        seen.append(len(images))
        return true(self, images)

    monkeypatch.setattr(classifier.Classifier, "forward", noting)
    run_stages("evaluate")
    assert seen == expected
    assert results(copied)["metrics.json"] == results(finished)["metrics.json"]


def test_stages_are_run_by_their_names() -> None:
    assert [STAGES[name].name for name in STAGES] == list(STAGES)
    with pytest.raises(KeyError):
        stage_runner.run("register", params.load(small_project.ROOT / "params.yaml"), RunFolder())


def test_errors_of_a_stage_leave_no_timing(project: Path) -> None:
    with pytest.raises(UserError):
        stage_runner.run("train", params.load(), RunFolder())
    assert not RunFolder().timing("train").exists()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."), True),
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (MemoryError(), True),
        (RuntimeError("another"), False),
    ],
)
def test_out_of_memory_is_one_line_and_a_batch_that_fits(
    project: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, told: bool
) -> None:
    from adaptformer.training import loop

    def fail(*_given: object) -> None:
        raise error

    adaptformer("validate")
    adaptformer("fetch")
    monkeypatch.setattr(loop, "train", fail)
    with pytest.raises(UserError if told else RuntimeError) as caught:
        stage_runner.run("train", params.load(), RunFolder())
    if told:
        assert isinstance(caught.value, UserError)
        assert caught.value.cause.startswith("out of memory: 6 images at once take about ")
        assert caught.value.remedy == "set training.gradient_accumulation to 2: micro-batches of 3 images fit"


def test_a_backbone_is_stored_once_for_all_run_folders(project: Path) -> None:
    adaptformer("validate")
    adaptformer("fetch")
    for seed in ("1", "2"):
        adaptformer("validate", f"training.seed={seed}")
        adaptformer("fetch", f"training.seed={seed}")
    own, *others = [project / "artifacts/backbone.safetensors", *project.glob("artifacts/runs/*/backbone.safetensors")]
    assert [path.samefile(own) for path in others] == [True, True]
    adaptformer("fetch", "training.seed=1")  # once more, beside its own link
    assert own.stat().st_nlink == 3


@pytest.mark.usefixtures("blank_pictures")
def test_event_files_are_written_where_runtime_names_a_folder(project: Path) -> None:
    adaptformer("validate")
    adaptformer("fetch")
    assert not (project / "events").exists()
    adaptformer("train", "runtime.tensorboard=events")
    assert len(list((project / "events/artifacts").iterdir())) == 1


def test_progress_bars_are_those_that_runtime_asks_for(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(progress, "use", asked.append)
    adaptformer("validate", "runtime.progress=none")
    adaptformer("fetch")
    assert asked == ["none", "auto"]
