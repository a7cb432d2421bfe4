"""dvc.yaml, the table of stages, and what the flow does are the same thing."""

import pytest
import yaml
from imports import ROOT, closure, imported_by_function, unit

from adaptformer.cli.stages import STAGES as COMMANDS
from adaptformer.config.params import UNTRACKED_SECTIONS, Params
from adaptformer.config.run_folder import RunFolder
from adaptformer.pipeline.stages import STAGES

DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())
RESOURCES = {"fetch": {"backbones"}}
"""Folders that a stage reads as data of the package, which no import shows."""


def paths(names):
    return [str(getattr(RunFolder(), name)) for name in names]


def test_dvc_has_the_stages_in_their_order():
    assert list(DVC["stages"]) == list(STAGES)


def test_the_command_line_has_the_stages_in_their_order():
    assert list(COMMANDS) == list(STAGES)


@pytest.mark.parametrize("stage", STAGES.values(), ids=lambda stage: stage.name)
def test_dvc_says_of_each_stage_what_the_table_says(stage):
    entry = DVC["stages"][stage.name]
    assert entry["cmd"] == f"python -m adaptformer {stage.name}"
    assert sorted(entry["deps"]) == sorted([*paths(stage.inputs), *(f"adaptformer/{path}" for path in stage.code)])
    assert entry["params"] == list(stage.params)
    assert sorted(entry["outs"] + entry.get("metrics", [])) == sorted(paths(stage.outputs))
    assert set(entry) <= {"cmd", "deps", "params", "outs", "metrics"}


def test_every_input_is_made_by_an_earlier_stage():
    made = {"data"}
    for stage in STAGES.values():
        assert set(stage.inputs) <= made
        assert not set(stage.outputs) & made
        made |= set(stage.outputs)


def test_every_tracked_section_decides_some_stage_and_no_untracked_one_does():
    used = {section for stage in STAGES.values() for section in stage.params}
    assert used == set(Params.model_fields) - set(UNTRACKED_SECTIONS)


@pytest.mark.parametrize("stage", STAGES.values(), ids=lambda stage: stage.name)
def test_a_stage_depends_on_exactly_the_code_that_its_function_imports(stage):
    within = imported_by_function(ROOT / "adaptformer/pipeline/stages.py")
    shared = {module for function, modules in within.items() if function not in STAGES for module in modules}
    units = {unit(module) for module in within[stage.name] | shared} - {None}
    assert set(stage.code) == closure(units) | RESOURCES.get(stage.name, set())
    assert len(stage.code) <= 6


def test_plots_and_metrics_name_outputs_of_stages():
    outputs = {path for stage in STAGES.values() for path in paths(stage.outputs)}
    named = set()
    for plot in DVC["plots"]:
        ((_, settings),) = plot.items() if isinstance(plot, dict) else ((plot, None),)
        named |= set(settings["y"]) if settings else {plot}
    assert named <= outputs
    assert DVC["stages"]["evaluate"]["metrics"] == paths(["metrics"])


def test_the_flow_walks_through_the_table():
    # It has no list of stages of its own, and a task for each one of the table.
    from tasks.stages import RETRIES, TASKS

    assert list(TASKS) == list(STAGES)
    assert {name: task.retries for name, task in TASKS.items() if task.retries} == RETRIES
    names = [constant for constant in _strings(ROOT / "flows/train.py") if constant in STAGES]
    assert not set(names) - {"train", "evaluate", "export"}


def _strings(path):
    import ast

    return [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
