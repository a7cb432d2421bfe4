"""The five stages through the command line, on a project small enough to go through all of them in seconds."""

from __future__ import annotations

import csv
import html
import importlib.metadata
import io
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import mite
import numpy as np
import onnxruntime
import pytest
import small_project
import torch
from small_project import adaptformer, results, run_stages, snapshot

from adaptformer.base import files, integrity, progress, source_code
from adaptformer.base.errors import UserError
from adaptformer.config import params
from adaptformer.config.run_folder import RunFolder
from adaptformer.export import graph, merging
from adaptformer.model import adapter_file, classifier, device, inference
from adaptformer.pipeline import stage_runner, stages
from adaptformer.pipeline.stages import STAGES
from adaptformer.prediction import model_file
from adaptformer.registry import result_check
from adaptformer.training import history, planning


@pytest.fixture
def copied(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished project that a test may change, which is the current folder."""
    root = Path(shutil.copytree(finished, tmp_path / "copied"))
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = small_project.write(tmp_path / "another place")
    monkeypatch.chdir(root)
    return root


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


def test_parity_is_proven_on_images_spread_over_the_whole_split(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adaptformer.export import parity

    def looking(model: object, content: object, paths: list[Path], *rest: object) -> None:
        raise Seen(paths)

    monkeypatch.chdir(finished)
    monkeypatch.setattr(graph, "write", lambda *given: None)
    monkeypatch.setattr(parity, "check", looking)
    for count, labels in ((3, list(mite.CLASSES)), (1, ["amber"]), (100, [c for c in mite.CLASSES for _ in range(3)])):
        loaded = params.load()
        few = loaded.model_copy(update={"export": loaded.export.model_copy(update={"parity_images": count})})
        with pytest.raises(Seen) as caught:
            STAGES["export"].run(few, RunFolder(), lambda row: None)
        assert [path.parent.name for path in caught.value.args[0]] == labels
        assert len(set(caught.value.args[0])) == len(labels)


def test_the_merged_model_is_written_and_judged_by_the_one_that_is_not(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adaptformer.export import parity

    written: list[Any] = []

    def looking(judge: object, *rest: object) -> None:
        raise Seen(judge)

    monkeypatch.chdir(finished)
    monkeypatch.setattr(graph, "write", lambda *given: written.append(given))
    monkeypatch.setattr(parity, "check", looking)
    with pytest.raises(Seen) as caught:
        STAGES["export"].run(params.load(), RunFolder(), lambda row: None)
    folder = RunFolder()
    trained, card = adapter_file.load(folder.adapter, folder.backbone)
    ((_, model, *rest),) = written
    merged = merging.merge(trained)
    assert type(model) is type(merged)
    torch.testing.assert_close(model.state_dict(), merged.state_dict(), rtol=0, atol=0)
    exporting = params.load().export
    assert rest == [card, exporting.opset, exporting.external_data_mb, files.sha256_file(folder.adapter)]
    assert "head.batch_norm.running_mean" in caught.value.args[0].state_dict()


@pytest.mark.usefixtures("exported_once")
def test_a_failed_parity_leaves_no_model(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_project.write_params(copied, export__parity_tolerance=1e-12)
    folder = RunFolder()
    results_of_export = [getattr(folder, name) for name in STAGES["export"].outputs]
    for path in (*results_of_export, folder.done("export"), folder.timing("export")):
        path.unlink()
    before = snapshot(copied)
    assert adaptformer("export") == 1
    assert "error: the ONNX file differs from the trained model" in capsys.readouterr().err
    after = snapshot(copied)
    assert after == before


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


@pytest.mark.usefixtures("exported_once")
def test_a_model_above_the_threshold_keeps_its_weights_in_a_file_beside_it(
    finished: Path, copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = copied
    folder = RunFolder()
    assert folder.model_weights.read_bytes() == b""
    before = model_file.size(folder.model)
    small_project.write_params(root, export__external_data_mb=0)
    run_stages("export")
    assert folder.model_weights.stat().st_size > folder.model.stat().st_size / 4
    assert folder.model.stat().st_size < before
    assert stage_runner.read_timing(folder, "export")["megabytes"] == round(model_file.size(folder.model) / 1e6, 3)
    parities = [integrity.read_record(path, "") for path in (folder.parity, finished / "artifacts/parity.json")]
    abouts = [dict(content.pop("about")) for content in parities]
    assert parities[0] == parities[1]
    assert abouts[0]["adapter"] == abouts[1]["adapter"]
    assert [about["model"] for about in abouts] == [
        model_file.sha256(folder.model), model_file.sha256(finished / "artifacts/model.onnx"),
    ]  # fmt: skip
    answers = []
    for place in (finished, root):
        monkeypatch.chdir(place)
        assert adaptformer("predict", "data/test", "--csv", "--device", "cpu") == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1]
    folder.model_weights.unlink()
    assert adaptformer("predict", "data/test", "--device", "cpu") == 1
    assert capsys.readouterr().err == (
        "error: artifacts/model.onnx needs artifacts/model.onnx.data, which does not exist\n"
        "  fix: copy model.onnx and model.onnx.data from the same run into one folder, or export the model again\n"
    )
    small_project.write_params(root)
    run_stages("export")
    assert {name: results(root)[name] for name in ("model.onnx", "model.onnx.data")} == {
        name: results(finished)[name] for name in ("model.onnx", "model.onnx.data")
    }


@pytest.mark.parametrize(("threads", "expected"), [(1, 1), (0, 5)])
def test_export_begins_on_the_threads_that_it_is_told(
    copied: Path, monkeypatch: pytest.MonkeyPatch, threads: int, expected: int
) -> None:
    def looking(*given: object, **options: object) -> None:
        raise Seen(torch.get_num_threads())

    monkeypatch.setattr(device, "default_threads", lambda: 5)
    monkeypatch.setattr(torch.onnx, "export", looking)
    small_project.write_params(copied, runtime__threads=threads)
    small_project.forget("export")
    with pytest.raises(Seen) as caught:
        adaptformer("export")
    assert caught.value.args == (expected,)


def test_all_of_export_runs_on_the_threads_that_it_is_told(
    copied: Path, exported_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch_threads: dict[str, int] = {}
    session_threads: list[int] = []

    def looking(place: object, name: str) -> None:
        true = getattr(place, name)

        def noting(*given: object, **options: object) -> object:
            torch_threads[name] = torch.get_num_threads()
            return true(*given, **options)

        monkeypatch.setattr(place, name, noting)

    looking(graph, "exported")
    looking(merging, "merge")
    looking(inference, "logits")
    true = onnxruntime.InferenceSession

    def session(path: str, options: onnxruntime.SessionOptions, **others: object) -> object:
        session_threads.append(options.intra_op_num_threads)
        return true(path, options, **others)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    small_project.write_params(copied, runtime__threads=3)
    small_project.forget("export")
    run_stages("export")
    assert torch_threads == {"exported": 3, "merge": 3, "logits": 3}
    assert session_threads == [3, 3], "parity and timing"


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


class TestFingerprint:
    """What a resumed training must find unchanged."""

    @pytest.fixture(autouse=True)
    def _inside(self, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(finished)

    def fingerprint(self, precision: str = "fp32", device: str = "cpu", **changes: object) -> dict[str, object]:
        return stages.fingerprint("train", params.load().model_copy(update=changes), RunFolder(), precision, device)

    def test_the_fingerprint_names_everything_that_decides_the_result(self) -> None:
        assert set(self.fingerprint()) == {
            "image", "adapter", "training", "manifest", "manifest_checksum", "backbone", "code", "versions",
            "precision", "device",
        }  # fmt: skip
        assert self.fingerprint() == self.fingerprint()
        json.dumps(self.fingerprint())

    def test_params_of_the_stage_and_precision_count_and_others_do_not(self) -> None:
        loaded = params.load()
        longer = loaded.training.model_copy(update={"epochs": 9})
        assert self.fingerprint(training=longer)["training"] != self.fingerprint()["training"]
        assert self.fingerprint("bf16")["precision"] == "bf16"
        assert self.fingerprint(device="cuda")["device"] == "cuda"
        for section, change in (
            ("evaluation", {"batch_size": 1}),
            ("runtime", {"threads": 9}),
            ("registry", {"model": "x"}),
        ):
            other = getattr(loaded, section).model_copy(update=change)
            assert self.fingerprint(**{section: other}) == self.fingerprint()

    @pytest.mark.parametrize("package", ["torch", "timm", "pillow"])
    def test_another_version_of_what_computes_counts(self, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
        before = self.fingerprint()
        true = importlib.metadata.version
        monkeypatch.setattr(importlib.metadata, "version", lambda name: "99" if name == package else true(name))
        after = self.fingerprint()
        assert {key for key in before if before[key] != after[key]} == {"versions"}

    @pytest.mark.parametrize(
        ("changed", "name"),
        [
            ("artifacts/manifest.csv", "manifest"), ("artifacts/backbone.safetensors", "backbone"),
            ("data/augmentation.py", "code"),
            ("training/loop.py", "code"), ("model/adapter.py", "code"), ("randomness.py", "code"),
            ("export/graph.py", None), ("evaluation/metrics.py", None),
        ],
    )  # fmt: skip
    def test_files_that_the_stage_depends_on_count_and_others_do_not(
        self, monkeypatch: pytest.MonkeyPatch, changed: str, name: str | None
    ) -> None:
        before = self.fingerprint()
        for module in (files, source_code):
            of = "sha256_file" if module is files else "sha256"
            true = getattr(module, of)
            monkeypatch.setattr(
                module, of, lambda path, true=true: "another" if path.as_posix().endswith(changed) else true(path)
            )
        after = self.fingerprint()
        assert {key for key in before if before[key] != after[key]} == ({name} if name else set())

    @pytest.mark.parametrize("template", ["evaluation/report.html.j2", "pages/base.html.j2"])
    def test_templates_of_pages_count_as_code(self, monkeypatch: pytest.MonkeyPatch, template: str) -> None:
        names = ("train", "evaluate")
        before = [stages.fingerprint(name, params.load(), RunFolder())["code"] for name in names]
        true = source_code.sha256
        monkeypatch.setattr(
            source_code, "sha256", lambda path: "another" if path.as_posix().endswith(template) else true(path)
        )
        after = [stages.fingerprint(name, params.load(), RunFolder())["code"] for name in names]
        assert [one == other for one, other in zip(before, after, strict=True)] == [True, False]


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


def test_the_plan_finds_the_epochs_that_fit_and_writes_them_if_asked(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    adaptformer("validate")
    adaptformer("fetch")
    monkeypatch.setattr(planning, "minutes", lambda *_: 3.0)  # for the two epochs of params.yaml
    capsys.readouterr()
    assert adaptformer("plan", "--minutes", "10") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "training.epochs=6 takes about 9.0 minutes"
    assert params.load().training.epochs == 2
    assert adaptformer("plan", "--minutes", "10", "--write") == 0
    assert "params.yaml: one value changed" in capsys.readouterr().out
    assert params.load().training.epochs == 6
    capsys.readouterr()
    assert adaptformer("plan", "--minutes", "0.4") == 1
    assert "one epoch of each phase takes about 0.5 minutes, and there are 0.4" in capsys.readouterr().err
    assert adaptformer("plan", "--write") == 1
    assert "give --minutes as well" in capsys.readouterr().err
    assert params.load().training.epochs == 6


@pytest.mark.parametrize("minutes", ["0", "-1", "inf", "many"])
def test_minutes_that_are_none_are_refused(minutes: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="1"):
        adaptformer("plan", "--minutes", minutes)
    assert f"invalid _minutes value: '{minutes}'" not in capsys.readouterr().err


def test_the_plan_is_printed_and_writes_nothing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert adaptformer("plan") == 1
    assert "fix: run `adaptformer validate` first" in capsys.readouterr().err
    adaptformer("validate")
    adaptformer("fetch")
    before = snapshot(project)
    capsys.readouterr()
    assert adaptformer("plan", "data.seed=1") == 1  # another manifest
    assert "adaptformer validate data.seed=1" in capsys.readouterr().err
    assert adaptformer("plan", "training.batch_size=3") == 0
    assert "with 3 images at once" in capsys.readouterr().out
    assert adaptformer("plan") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "training on 18 images, validation on 3"
    assert [line.split(" ")[0] for line in lines] == ["training", "trains", "memory:", "time:"]
    assert snapshot(project) == before
