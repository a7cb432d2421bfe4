"""The direction of the imports: flows -> tasks -> adaptformer, and inside the library only downwards."""

import subprocess
import sys

import pytest
from imports import ROOT, imported, module_name, sources, units_imported_by

PIXELS = {"data"}
MODEL = {"data", "model"}
LIBRARY = {
    "config": set(),
    "pages": set(),
    "presets": set(),
    "data": set(),
    "model": PIXELS,
    "checkpoints": MODEL,
    "validation": PIXELS | {"pages"},
    "dataset_import": MODEL | {"presets", "validation"},
    "labels": MODEL | {"pages", "validation"},
    "monitoring": MODEL | {"evaluation", "export", "gate", "pages", "validation"},
    "tuning": MODEL,
    "evaluation": MODEL | {"pages"},
    "export": MODEL,
    "batch_prediction": PIXELS | {"export"},
    "large_data": MODEL | {"batch_prediction", "dataset_import", "validation"},
    "sweeps": {"tuning"},
    "pretraining": MODEL | {"tuning"},
    "gate": {"data", "evaluation", "pages"},
    "pipeline": MODEL | {"checkpoints", "validation", "tuning", "evaluation", "export"},
    "tracking": {"tuning", "export", "presets", "pipeline"},
    "registry": MODEL | {"evaluation", "export", "gate", "validation", "tracking"},
    "api": MODEL
    | {"checkpoints", "dataset_import", "export", "labels", "pipeline", "presets", "registry", "validation"},
}
"""What each folder of the library may import of the others, besides `base` and `config`."""
LOWEST = {"base", "config"}
COMMAND_LINE = {"__init__.py", "__main__.py", "commands", "py.typed"}


def tops(path):
    return {module.split(".")[0] for module in imported(path)}


def folders_that_import(*packages):
    importing = [path for path in sources("adaptformer", "tasks", "flows") if tops(path) & set(packages)]
    names = [module_name(path).split(".") for path in importing]
    return {".".join(parts[:2]) if parts[0] == "adaptformer" else parts[0] for parts in names}


def test_only_flows_and_tasks_import_prefect():
    assert folders_that_import("prefect") == {"flows", "tasks"}


def test_only_tracking_and_registry_import_mlflow_or_dvc():
    assert folders_that_import("mlflow") == {"adaptformer.tracking", "adaptformer.registry"}
    assert folders_that_import("dvc") == {"adaptformer.tracking"}


@pytest.mark.parametrize("path", sources("adaptformer"), ids=module_name)
def test_the_library_imports_neither_tasks_nor_flows(path):
    assert not tops(path) & {"tasks", "flows"}


@pytest.mark.parametrize("path", sources("tasks"), ids=module_name)
def test_tasks_do_not_import_flows(path):
    assert "flows" not in tops(path)


def test_every_part_of_the_library_has_its_place_in_the_order():
    parts = {place.name for place in (ROOT / "adaptformer").iterdir() if place.name != "__pycache__"}
    assert parts == LIBRARY.keys() | LOWEST | COMMAND_LINE


@pytest.mark.parametrize("part", sorted(LIBRARY))
def test_a_part_of_the_library_imports_only_what_lies_below_it(part):
    assert units_imported_by(part) <= LIBRARY[part] | LOWEST


def test_the_base_imports_nothing_else_of_the_library():
    assert units_imported_by("base") == set()
    assert units_imported_by("config") == {"base"}


@pytest.mark.parametrize(
    "module",
    [
        "adaptformer.export.predictor",
        "adaptformer.export.prediction_table",
        "adaptformer.batch_prediction.running",
        "adaptformer.registry.answering",
        "adaptformer.api.model",
        "adaptformer.api.run",
        "adaptformer.__main__",
    ],
)
def test_predicting_imports_neither_torch_nor_mlflow(module):
    check = f"import sys, {module}; sys.exit(bool({{'torch', 'timm', 'mlflow', 'dvc'}} & sys.modules.keys()))"
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
