"""The files of a project, which are those of the checkout, but for what each stage depends on."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from adaptformer.config import params
from adaptformer.config.run_folder import RunFolder
from adaptformer.pipeline import library_version
from adaptformer.pipeline.stages import STAGES
from adaptformer.project import contents, sources

ROOT = Path(__file__).resolve().parents[3]
TEXTS = sources.texts()
OTHER = {"dvc.yaml", ".dvc/config", "README.md"}


@pytest.mark.parametrize("name", sorted(TEXTS.keys() - OTHER))
def test_a_file_of_a_project_is_that_of_the_checkout(name: str) -> None:
    assert TEXTS[name] == (ROOT / contents.FILES.get(name, name)).read_text()


def test_a_project_has_all_flows_and_tasks() -> None:
    code = {path.relative_to(ROOT).as_posix() for folder in ("flows", "tasks") for path in (ROOT / folder).glob("*.py")}
    assert code <= TEXTS.keys()
    assert len(code) > 10


@pytest.mark.parametrize("stage", STAGES.values(), ids=lambda stage: stage.name)
def test_a_stage_of_a_project_depends_on_its_inputs_its_params_and_its_line_of_the_library(stage) -> None:  # type: ignore[no-untyped-def]
    here, there = (
        yaml.safe_load(text)["stages"][stage.name] for text in ((ROOT / "dvc.yaml").read_text(), TEXTS["dvc.yaml"])
    )
    assert there.pop("deps", []) == [str(getattr(RunFolder(), name)) for name in stage.inputs]
    assert there.pop("params") == [*stage.params, {"library.yaml": [f"stages.{stage.name}"]}]
    assert there == {key: value for key, value in here.items() if key not in {"deps", "params"}}


def test_plots_are_those_of_the_checkout() -> None:
    assert yaml.safe_load(TEXTS["dvc.yaml"])["plots"] == yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"]
    assert "adaptformer/data" not in TEXTS["dvc.yaml"]


@pytest.mark.parametrize(
    "line",
    ["# In an archive, it is so. $Format:%n    no_scm = true%n$\n", "# In an archive, it is so. \n    no_scm = true\n"],
)
def test_dvc_in_a_project_decides_about_git_by_itself_whatever_the_wheel_was_built_from(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    present = sources.source
    config = (ROOT / ".dvc/config").read_text()
    assert sources.texts()[".dvc/config"] == "".join(config.partition("autostage = false\n")[:2])
    for name in (*contents.FILES.values(), *TEXTS):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((present(name)).read_bytes() if present(name).is_file() else b"")
    (tmp_path / ".dvc/config").write_text(config.partition("# In an archive")[0] + line)
    monkeypatch.setattr(sources, "source", lambda name: tmp_path / name)
    assert sources.texts()[".dvc/config"] == TEXTS[".dvc/config"]


def test_the_params_of_a_project_are_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(TEXTS["params.yaml"])
    assert params.load(tmp_path / "params.yaml") == params.load(ROOT / "params.yaml")


def test_a_stage_has_the_same_code_in_the_file_as_in_the_records_of_runs() -> None:
    assert library_version.installed().stages.keys() == STAGES.keys()
    assert len(set(library_version.installed().stages.values())) == len(STAGES)


def test_a_source_archive_has_what_the_wheel_takes() -> None:
    lines = [line.split() for line in (ROOT / "MANIFEST.in").read_text().splitlines() if not line.startswith("#")]
    assert {name for kind, *names in lines if kind == "include" for name in names} == set(contents.FILES.values())
    assert [rest for kind, *rest in lines if kind == "recursive-include"] == [
        [name, "*.py"] for name in contents.FOLDERS
    ]
