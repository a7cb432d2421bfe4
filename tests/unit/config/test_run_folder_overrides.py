"""Runs with overrides: which folder is theirs, what they record there, and when a stage is skipped."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import small_project
from small_project import adaptformer, results

from adaptformer.config import params, run_folder
from adaptformer.config.run_folder import RunFolder
from adaptformer.data import image_facts
from adaptformer.pipeline.stages import STAGES

pytestmark = pytest.mark.usefixtures("blank_pictures", "exported_once")
OVERRIDES = ["training.epochs=1", "adapter.bottlenecks=[2]"]


@pytest.fixture(scope="module")
def overridden(tmp_path_factory: pytest.TempPathFactory, stored_export: Callable[..., object]) -> Path:
    root = small_project.write(tmp_path_factory.mktemp("overridden"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr("adaptformer.export.graph.exported", stored_export)
        small_project.leave_pictures_blank(patch)
        for name in STAGES:
            assert adaptformer(name, *OVERRIDES) == 0
    return root


@pytest.fixture
def project(overridden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy, times of files included, that a test may change."""
    root = tmp_path / "project"
    shutil.copytree(overridden, root)
    monkeypatch.chdir(root)
    return root


def folder_of(*overrides: str) -> RunFolder:
    return run_folder.folder_for(params.load(), params.load(overrides=params.parse_overrides(overrides)))


def runs(root: Path) -> list[Path]:
    return sorted((root / "artifacts/runs").iterdir())


def said(caplog: pytest.LogCaptureFixture, *arguments: str) -> list[str]:
    caplog.clear()
    assert adaptformer(*arguments) == 0
    return [record.message for record in caplog.records]


def test_what_decides_results_names_the_folder(project: Path) -> None:
    (run,) = runs(project)
    assert folder_of(*OVERRIDES).root == run.relative_to(project)
    content = json.loads((run / "params.json").read_text())
    assert (content["training"]["epochs"], content["adapter"]["bottlenecks"]) == (1, [2])
    assert not {"registry", "runtime"} & set(content)
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert run.name == hashlib.sha256(canonical.encode()).hexdigest()[:12]


def test_order_and_untracked_sections_do_not_matter(project: Path) -> None:
    same = folder_of(*reversed(OVERRIDES), "runtime.threads=2", "registry.model=other")
    assert same.root == folder_of(*OVERRIDES).root
    assert folder_of("training.epochs=3").root != same.root


@pytest.mark.parametrize("override", ["training.epochs=2", "runtime.threads=2", "registry.model=other"])
def test_overrides_that_decide_nothing_stay_in_the_default_folder(project: Path, override: str) -> None:
    folder = folder_of(override)
    assert folder.root == Path("artifacts")
    assert not folder.isolated


def test_all_of_the_run_lies_in_its_folder(overridden: Path) -> None:
    (run,) = runs(overridden)
    assert set(results(overridden)) == set(), "nothing in artifacts/ itself"
    beside = {"params.json", *(f"{name}.done.json" for name in STAGES), *(f"timing/{name}.json" for name in STAGES)}
    outputs = {str(getattr(RunFolder(Path()), name)) for stage in STAGES.values() for name in stage.outputs}
    present = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    assert {name for name in present if name != ".lock"} == beside | outputs


def test_all_runs_share_one_image_cache(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = sorted((project / "artifacts/cache").glob("*.npy"))
    assert cached
    for name in ("validate", "fetch"):
        assert adaptformer(name, "training.epochs=3") == 0
    monkeypatch.setattr(image_facts, "content", lambda *_: pytest.fail("decoded again"))
    assert adaptformer("train", "training.epochs=3") == 0
    assert sorted((project / "artifacts/cache").glob("*.npy")) == cached


@pytest.mark.parametrize("image_cache_gb", [None, 0])
def test_the_result_is_that_of_the_same_values_in_params_yaml_with_or_without_a_cache(
    overridden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image_cache_gb: float | None
) -> None:
    plain = small_project.write(
        tmp_path / "plain", training__epochs=1, adapter__bottlenecks=[2], runtime__image_cache_gb=image_cache_gb
    )
    monkeypatch.chdir(plain)
    small_project.run_stages("validate", "fetch", "train")
    (run,) = runs(overridden)
    assert bool(list((plain / "artifacts/cache").glob("*.npy"))) == (image_cache_gb is None)
    assert (run / "adapter.safetensors").read_bytes() == (plain / "artifacts/adapter.safetensors").read_bytes()


def test_a_finished_stage_is_skipped(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in STAGES:
        assert f"{name} is current" in said(caplog, name, *OVERRIDES)


def test_the_pipeline_runs_what_is_not_current(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = folder_of(*OVERRIDES)
    folder.parity.unlink()
    told = said(caplog, "run", "--stages-only", *OVERRIDES)
    assert [line for line in told if line.endswith("is current")] == [f"{name} is current" for name in [*STAGES][:-1]]
    assert "export begins" in told
    assert folder.parity.is_file()


def test_the_pipeline_in_a_folder_of_its_own_leaves_the_default_one_alone(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # What params.yaml says is now what the finished run used, so that all of it is current.
    small_project.write_params(project, training__epochs=1, adapter__bottlenecks=[2])
    told = said(caplog, "run", "--stages-only", "--own-folder")
    assert told[1:] == [f"{name} is current" for name in STAGES]
    assert results(project) == {}


@pytest.mark.parametrize("damage", ["changed", "gone", "record gone", "record damaged"])
def test_a_stage_whose_outputs_are_not_intact_runs_again(
    project: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    folder = folder_of(*OVERRIDES)
    before = folder.metrics.read_bytes()
    if damage == "changed":
        folder.metrics.write_text("{}")
    elif damage == "gone":
        folder.metrics.unlink()
    elif damage == "record gone":
        folder.done("evaluate").unlink()
    else:
        folder.done("evaluate").write_text("[")
    assert "evaluate done" in " ".join(said(caplog, "evaluate", *OVERRIDES))
    assert folder.metrics.read_bytes() == before
    assert "evaluate is current" in said(caplog, "evaluate", *OVERRIDES)


def test_a_stage_whose_input_changed_runs_again(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = folder_of(*OVERRIDES)
    record = json.loads(folder.done("evaluate").read_text())
    record["inputs"]["adapter"] = "0" * 64
    folder.done("evaluate").write_text(json.dumps(record))
    assert "evaluate begins" in said(caplog, "evaluate", *OVERRIDES)


def test_touched_data_cost_a_validation_and_no_training(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.utime(next((project / "data/train").rglob("*.png")), (1, 1))
    assert "validate begins" in said(caplog, "validate", *OVERRIDES)
    assert "train is current" in said(caplog, "train", *OVERRIDES)


def test_changed_data_must_be_validated_first(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    next((project / "data/train").rglob("*.png")).unlink()
    assert adaptformer("train", *OVERRIDES) == 1
    told = capsys.readouterr().err
    assert "data/ is not what artifacts/runs/" in told
    assert "fix: run `adaptformer validate training.epochs=1 'adapter.bottlenecks=[2]'` first" in told


def test_a_missing_input_names_the_command_with_its_overrides(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert adaptformer("export", "training.epochs=7") == 1
    told = capsys.readouterr().err
    assert f"{folder_of('training.epochs=7').manifest} is missing" in told
    assert "fix: run `adaptformer validate training.epochs=7` first" in told


def test_what_changes_while_a_stage_runs_is_not_recorded(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    from adaptformer.curation.checks import data_report

    real = data_report.page

    def while_running(*arguments: object) -> str:
        next((project / "data/train").rglob("*.png")).write_bytes(b"new")
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(data_report, "page", while_running)
    folder = folder_of(*OVERRIDES)
    folder.manifest.unlink()
    assert adaptformer("validate", *OVERRIDES) == 1
    assert "inputs changed while the run was going: data (stage validate is not recorded)" in capsys.readouterr().err
    caplog.clear()
    assert adaptformer("validate", *OVERRIDES) == 1  # the image is none any more
    assert "validate begins" in caplog.messages
