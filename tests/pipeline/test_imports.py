"""The direction of the imports: flows -> tasks -> adaptformer, and inside the library only downwards."""

import subprocess
import sys

import pytest
from imports import DIVIDED, ROOT, imported, module_name, sources, units_imported_by

PIXELS = {"data"}
MODEL = {"data", "model"}
STAGES = {"backbones", "curation/checks", "training", "evaluation", "export", "prediction"}
LIBRARY = {
    "config": set(),
    "pages": set(),
    "presets": set(),
    "data": set(),
    "model": PIXELS,
    "backbones": MODEL,
    "curation": set(),
    "curation/checks": PIXELS | {"pages"},
    "curation/importing": MODEL | {"curation/checks", "presets"},
    "curation/labels": MODEL | {"curation/checks", "pages"},
    "curation/sharded_checks": MODEL | {"curation/checks", "curation/importing", "sharding"},
    "monitoring": MODEL | {"curation/checks", "evaluation", "gate", "pages", "prediction"},
    "training": MODEL,
    "evaluation": MODEL | {"pages"},
    "prediction": PIXELS,
    "export": MODEL | {"prediction"},
    "sharding": PIXELS,
    "batch_prediction": PIXELS | {"prediction", "sharding"},
    "sweeps": {"training"},
    "pretraining": MODEL | {"training"},
    "gate": {"data", "evaluation", "pages"},
    "tracking": {"training", "prediction", "presets"},
    "registry": MODEL | {"curation/checks", "evaluation", "gate", "prediction", "tracking"},
    "pipeline": MODEL | STAGES | {"presets", "sweeps", "tracking", "registry"},
    "project": {"pipeline", "presets"},
    "api": MODEL
    | {"backbones", "curation/checks", "curation/importing", "curation/labels", "pipeline", "prediction", "presets"}
    | {"project", "registry"},
}
"""What each folder of the library may import of the others, besides `base` and `config`."""
LOWEST = {"base", "config"}
COMMAND_LINE = {"__init__.py", "__main__.py", "cli", "py.typed"}


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


def test_of_the_command_line_only_the_commands_of_flows_take_its_parser_and_exit_codes():
    importing = {module_name(path): imported(path) for path in sources("tasks", "flows")}
    taken = {(name, module) for name, modules in importing.items() for module in modules if "adaptformer.cli" in module}
    assert {name for name, _ in taken} == {"flows.__main__", "flows.services"}
    assert {module for _, module in taken} == {"adaptformer.cli.exit_code", "adaptformer.cli.parsing"}


@pytest.mark.parametrize("path", sources("tasks"), ids=module_name)
def test_tasks_do_not_import_flows(path):
    assert "flows" not in tops(path)


def test_every_part_of_the_library_has_its_place_in_the_order():
    folders = [ROOT / "adaptformer", *(ROOT / "adaptformer" / name for name in DIVIDED)]
    parts = {
        place.relative_to(ROOT / "adaptformer").as_posix()
        for folder in folders
        for place in folder.iterdir()
        if place.name not in {"__pycache__", *({"__init__.py"} if folder.name in DIVIDED else ())}
    }
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
        "adaptformer.prediction.predictor",
        "adaptformer.prediction.prediction_table",
        "adaptformer.batch_prediction.running",
        "adaptformer.registry.model_choice",
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
    waiting, reached = {"adaptformer.prediction.predictor"}, set()
    while waiting:
        name = waiting.pop()
        reached.add(name)
        if name in files:
            waiting |= imported(files[name]) - reached
    assert "adaptformer.data.decoding" in reached
    assert not {name.split(".")[0] for name in reached} & {"torch", "timm", "torchvision"}
