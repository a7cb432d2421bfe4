"""`fit` is the command line's code: the same bytes, in a folder of its own, continued by the same call."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest
import small_project
import yaml
from small_project import adaptformer
from squares import mite_values, write_squares

import adaptformer as af
from adaptformer.base import yaml_text
from adaptformer.pipeline import stage_runner
from adaptformer.pipeline.stages import STAGES

pytestmark = pytest.mark.usefixtures("exported_once")


def results(run: af.Run) -> dict[str, bytes]:
    """The bytes of every file that a stage hands on."""
    paths = [getattr(run.files, name) for stage in STAGES.values() for name in stage.outputs]
    return {path.relative_to(run.folder).as_posix(): path.read_bytes() for path in paths}


def date_of(run: af.Run) -> str:
    """The day on which a run imported its images: a test may run at midnight."""
    date: str = json.loads((run.folder / "fit.json").read_text())["decided"]["data.date"]
    return date


@pytest.fixture
def only_import(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `fit` end with KeyboardInterrupt when the images are imported."""

    def stop(*_arguments: Any, **_options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stage_runner, "run", stop)


def test_fit_gives_the_bytes_of_the_stages_of_the_command_line(
    fitted: af.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = fitted.folder.parent / "squares"
    project = tmp_path / "project"
    project.mkdir()
    small_project.write_params(
        project, **{key.replace(".", "__"): value for key, value in mite_values(tmp_path).items()}
    )
    monkeypatch.chdir(project)
    assert adaptformer("data", "import", str(source)) == 0
    content = yaml.safe_load((project / "params.yaml").read_text())
    content["data"]["date"] = date_of(fitted)
    (project / "params.yaml").write_text(yaml.safe_dump(content))
    small_project.run_stages()
    assert small_project.results(project) == results(fitted)


def test_predictions_of_the_command_line_and_of_the_api_are_the_same(
    fitted: af.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = sorted(str(path) for path in (fitted.folder.parent / "squares").glob("*/*.png"))
    assert adaptformer("predict", *paths, "--model", str(fitted.files.model), "--top-k", "2", "--csv") == 0
    printed = [line.split(",") for line in capsys.readouterr().out.splitlines()[1:]]
    answers = fitted.model.predict(paths, top_k=2)
    assert printed == [
        [
            answer.image,
            "",
            *(cell for pair in zip(answer.classes, answer.probabilities, strict=True) for cell in _cells(*pair)),
        ]
        for answer in answers
    ]


def _cells(label: str, probability: float) -> tuple[str, str]:
    return label, f"{probability:.6f}"


def test_without_a_folder_the_run_is_named_after_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from adaptformer.api.fitting import place

    monkeypatch.chdir(tmp_path)
    assert place("../squares/", None).root == Path("runs/squares")
    assert place("lists/pets.csv", None).root == Path("runs/pets")
    assert place("squares", Path("elsewhere")).data == Path("elsewhere/data")


def test_the_same_call_again_runs_nothing(fitted: af.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_runner, "run", _refuse)
    before = results(fitted)
    root = fitted.folder.parent
    again = af.fit(root / "squares", out=fitted.folder, overrides=mite_values(root))
    assert results(again) == before


def _refuse(*_arguments: Any, **_options: Any) -> None:
    raise AssertionError("a stage runs")


def test_a_run_that_was_stopped_is_continued_by_the_same_call(
    fitted: af.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    run = stage_runner.run

    def stop(name: str, *arguments: Any, **options: Any) -> None:
        ran.append(name)
        if ran == ["validate", "fetch", "train", "evaluate"]:
            raise KeyboardInterrupt
        run(name, *arguments, **options)

    monkeypatch.setattr(stage_runner, "run", stop)
    root = fitted.folder.parent
    call: dict[str, Any] = {"out": tmp_path / "run", "overrides": mite_values(root, data__date=date_of(fitted))}
    with pytest.raises(KeyboardInterrupt):
        af.fit(root / "squares", **call)
    assert results(af.fit(root / "squares", **call)) == results(fitted)
    assert ran == ["validate", "fetch", "train", "evaluate", "evaluate", "export"]


def test_other_values_in_the_folder_of_a_run_are_refused(fitted: af.Run) -> None:
    before = results(fitted)
    root = fitted.folder.parent
    with pytest.raises(af.UserError, match=r"training\.epochs = 2, and this one has 3") as refused:
        af.fit(root / "squares", out=fitted.folder, overrides=mite_values(root, training__epochs=3))
    assert "another folder" in refused.value.remedy
    assert results(fitted) == before


def test_other_images_in_the_folder_of_a_run_are_refused(fitted: af.Run, tmp_path: Path) -> None:
    squares = write_squares(tmp_path / "squares", seed=1)
    with pytest.raises(af.UserError, match="differs now"):
        af.fit(squares, out=fitted.folder, overrides=mite_values(fitted.folder.parent))


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/metrics.json").write_text("{}")
    with pytest.raises(af.UserError, match=r"holds metrics\.json"):
        af.fit(write_squares(tmp_path / "squares"), out=tmp_path / "mine", overrides=mite_values(tmp_path))
    assert (tmp_path / "mine/metrics.json").read_text() == "{}"


def test_images_and_values_may_be_corrected_until_something_is_trained(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    squares = write_squares(tmp_path / "squares", per_class=4)
    bad = squares / "blue/bad.png"
    bad.write_bytes(b"no image")
    with pytest.raises(af.UserError, match="no usable images"):
        af.fit(squares, out=tmp_path / "run", overrides=mite_values(tmp_path))
    bad.unlink()
    with pytest.raises(af.UserError, match="nowhere"):
        af.fit(squares, out=tmp_path / "run", overrides=mite_values(tmp_path, backbone__checkpoint="nowhere"))
    request.getfixturevalue("only_import")
    with pytest.raises(KeyboardInterrupt):
        af.fit(squares, out=tmp_path / "run", overrides=mite_values(tmp_path, training__epochs=1))
    with pytest.raises(af.UserError, match=r"data\.seed = 0, and this one has 1"):
        af.fit(squares, out=tmp_path / "run", overrides=mite_values(tmp_path, data__seed=1))


def test_bad_files_can_be_left_out_and_are_listed(tmp_path: Path, only_import: None) -> None:
    squares = write_squares(tmp_path / "squares", per_class=4)
    (squares / "blue/bad.png").write_bytes(b"no image")
    with pytest.raises(KeyboardInterrupt):
        af.fit(squares, out=tmp_path / "run", overrides=mite_values(tmp_path), skip_bad=True)
    assert "blue/bad.png" in (tmp_path / "run/left_out.csv").read_text()


def test_a_list_with_groups_keeps_each_group_in_one_split(tmp_path: Path, only_import: None) -> None:
    squares = write_squares(tmp_path / "squares")
    rows = [f"{path},{path.parent.name},g{int(path.stem) // 2}" for path in sorted(squares.glob("*/*.png"))]
    (tmp_path / "list.csv").write_text("path,label,group\n" + "\n".join(rows))
    with pytest.raises(KeyboardInterrupt):
        af.fit(tmp_path / "list.csv", out=tmp_path / "run", overrides=mite_values(tmp_path))
    assert json.loads((tmp_path / "run/fit.json").read_text())["decided"]["data.group_pattern"] == "/(.+?)__"
    groups: dict[str, set[str]] = {}
    for path in (tmp_path / "run/data").glob("*/*/*.png"):
        groups.setdefault(path.name.partition("__")[0], set()).add(path.parts[-3])
    assert len(groups) == 5
    assert all(len(splits) == 1 for splits in groups.values())


def test_images_that_hold_the_run_folder_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    squares = write_squares(tmp_path / "squares")
    with pytest.raises(af.UserError, match="contains the other"):
        af.fit(squares, out=squares / "run")
    assert not (squares / "run").exists()


def test_large_images_for_a_small_model_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, only_import: None
) -> None:
    for side, told in ((31, False), (32, True)):
        squares = write_squares(tmp_path / f"{side}", side=side, per_class=4)
        caplog.clear()
        with pytest.raises(KeyboardInterrupt):
            af.fit(squares, out=tmp_path / f"run {side}", overrides=mite_values(tmp_path))
        assert ("a backbone for photos sees more" in caplog.text) == told


@pytest.mark.usefixtures("blank_pictures")
def test_the_command_writes_only_its_folder_and_ends_with_the_line_that_predicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    write_squares(Path("squares"))
    values = [f"{key}={yaml_text.line(value)}" for key, value in mite_values(tmp_path).items()]
    assert adaptformer("fit", "squares", *values[:3], "--output", "runs/a b", *values[3:]) == 0
    printed = capsys.readouterr().out.splitlines()
    top1 = af.Run("runs/a b").metrics["top1"]
    assert printed == [
        f"accuracy  {top1:.2%} of 6 test images (95 % interval: {top1.low:.1%} to {top1.high:.1%})",
        "report    runs/a b/report.html",
        "predict   adaptformer predict IMAGES --model 'runs/a b/model.onnx'",
    ]
    assert sorted(path.name for path in Path().iterdir()) == ["runs", "squares"]
    assert [path.name for path in Path("runs").iterdir()] == ["a b"]


def test_a_call_leaves_the_process_as_it_was(tmp_path: Path, only_import: None) -> None:
    import torch

    logger = logging.getLogger("adaptformer")
    torch.set_num_threads(1)
    before = dict(os.environ), Path.cwd(), logger.level, list(logger.handlers)
    with pytest.raises(KeyboardInterrupt):
        af.fit(write_squares(tmp_path / "squares"), out=tmp_path / "run", overrides=mite_values(tmp_path))
    assert (dict(os.environ), Path.cwd(), logger.level, list(logger.handlers)) == before
    assert torch.get_num_threads() == 1
