"""The stage `export` through the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mite
import onnxruntime
import pytest
import small_project
import torch
from small_project import adaptformer, results, run_stages, snapshot

from adaptformer.base import files, integrity
from adaptformer.config import params
from adaptformer.config.run_folder import RunFolder
from adaptformer.export import graph, merging
from adaptformer.model import adapter_file, device, inference
from adaptformer.pipeline import stage_runner
from adaptformer.pipeline.stages import STAGES
from adaptformer.prediction import model_file


class Seen(Exception):  # noqa: N818 - it only ends the stage, and carries what was looked for
    pass


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
