import subprocess
import sys

import pytest
from imports import ROOT, imported, module_name, sources, units_imported_by

FOLDERS = {
    "data": set(),
    "model": {"data"},
    "tuning": {"data", "model"},
    "evaluation": {"data", "model"},
    "gate": {"evaluation"},
    "export": {"data", "model"},
    "pretraining": {"data", "model"},
    "checkpoints": set(),
    "presets": set(),
}
TOP = {"errors.py", "files.py", "page.py", "params.py", "randomness.py", "run_folder.py"}


def tops(path):
    return {module.split(".")[0] for module in imported(path)}


@pytest.mark.parametrize("path", sources("adaptformer"), ids=module_name)
def test_the_library_knows_no_orchestrator(path):
    assert not tops(path) & {"prefect", "mlflow", "dvc", "tasks", "flows"}


@pytest.mark.parametrize("path", sources("tasks"), ids=module_name)
def test_tasks_do_not_import_flows(path):
    assert "flows" not in tops(path)


def test_only_two_files_import_mlflow_and_one_dvc():
    ours = sources("adaptformer", "tasks", "flows", "benchmarks")
    assert {module_name(path) for path in ours if "mlflow" in tops(path)} == {"tasks.tracking", "tasks.registry"}
    assert {module_name(path) for path in ours if "dvc" in tops(path)} == {"tasks.versioning"}


@pytest.mark.parametrize(
    "folder", sorted(p.name for p in (ROOT / "adaptformer").iterdir() if (p / "__init__.py").is_file())
)
def test_folders_of_the_library_import_only_what_lies_below_them(folder):
    assert units_imported_by(folder) <= FOLDERS[folder] | TOP


def test_top_level_files_import_no_folder():
    for name in TOP:
        assert units_imported_by(name) <= TOP, name


def test_stages_import_no_door():
    assert units_imported_by("stages.py") <= set(FOLDERS) | TOP
    assert units_imported_by("stage_run.py") <= {"stages.py"} | TOP


@pytest.mark.parametrize("module", ["adaptformer.export.predictor", "adaptformer.export.table", "adaptformer.__main__"])
def test_predicting_never_imports_torch(module):
    check = f"import sys, {module}; sys.exit('torch' in sys.modules or 'timm' in sys.modules)"
    subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=True)


def test_the_predictor_reaches_no_torch_through_any_import():
    files = {module_name(path): path for path in sources("adaptformer")}
    waiting, reached = {"adaptformer.export.predictor"}, set()
    while waiting:
        name = waiting.pop()
        reached.add(name)
        if name in files:
            waiting |= imported(files[name]) - reached
    assert "adaptformer.data.decoding" in reached
    assert not {name.split(".")[0] for name in reached} & {"torch", "timm", "torchvision"}
