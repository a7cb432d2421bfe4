"""Commands that run stages: each stage, the whole run, params, plan, compare, sweep."""

from __future__ import annotations

import argparse
import logging
import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptformer.base.errors import UserError, without_credentials
from adaptformer.cli.parsing import (
    add_methods,
    add_offline,
    add_overrides,
    add_search,
    options,
    resolved,
    stay_offline,
)

if TYPE_CHECKING:
    from adaptformer.cli.parsing import Commands
    from adaptformer.config.params import Params, ParamsFile
    from adaptformer.config.run_folder import RunFolder

log = logging.getLogger("adaptformer")

STAGES = {
    "validate": "check data/, write the manifest and the data report",
    "fetch": "get the pretrained checkpoint and verify it",
    "train": "train the method's parameters and the head; a killed run resumes",
    "evaluate": "judge the trained model on the test split",
    "export": "write model.onnx and prove that it agrees with the trained model",
}


def add(commands: Commands) -> None:
    """Add the commands of this group to the parser."""
    for name, text in STAGES.items():
        stage = commands.add_parser(name, help=text)
        add_overrides(stage)
        stage.set_defaults(command=_stage, name=name)
    whole = commands.add_parser(
        "run", help="bring all stages up to date, track the run, register its model, ask the gate"
    )
    ends = whole.add_mutually_exclusive_group()
    ends.add_argument("--register", action="store_true", help="also register the model of a run with overrides")
    ends.add_argument("--stages-only", action="store_true", help="neither track nor register; needs no MLflow")
    whole.add_argument(
        "--own-folder", action="store_true", help="write below artifacts/runs/ even if no override changes the results"
    )
    add_overrides(whole)
    whole.set_defaults(command=_run)
    for command in (commands.choices["fetch"], whole):
        add_offline(command)
    shown = commands.add_parser("params", help="show params.yaml with presets and overrides applied, or write it")
    add_overrides(shown)
    add_offline(shown)
    form = shown.add_mutually_exclusive_group()
    form.add_argument("--write", action="store_true", help="put the values into params.yaml; its comments stay")
    form.add_argument("--markdown", action="store_true", help="print a page with type, range and meaning of each key")
    shown.set_defaults(command=_params)
    planned = commands.add_parser("plan", help="predict the cost of training: parameters, memory, batch, minutes")
    add_overrides(planned)
    planned.add_argument("--minutes", type=_minutes, help="find the number of epochs that takes this many minutes")
    planned.add_argument("--write", action="store_true", help="with --minutes: put training.epochs into params.yaml")
    planned.set_defaults(command=_plan)
    compare = commands.add_parser("compare", help="train methods on the same data and set them side by side")
    add_methods(compare)
    compare.set_defaults(command=_compare)
    sweep = commands.add_parser("sweep", help="search values of params.yaml by trials on the validation split")
    add_search(sweep)
    sweep.add_argument("--write", action="store_true", help="put the best trial's values into params.yaml")
    sweep.set_defaults(command=_sweep)


def _stage(given: argparse.Namespace) -> None:
    """Run one stage; if torchrun started this process, only the first one of its processes writes files."""
    from adaptformer.config import run_folder
    from adaptformer.pipeline import records, stage_runner
    from adaptformer.training import processes

    stay_offline(given)
    file, run_params = resolved(given)
    folder = run_folder.folder_for(file.params, run_params)
    words = options(given)
    record = records.of_stage(given.name, run_params, folder, words)
    if given.name == "train" and processes.follows():
        if not record.is_current("train"):
            stage_runner.follow(run_params, folder)
        return
    with folder.lock(f"adaptformer {given.name}"):
        _show_folder(folder)
        stage_runner.Runner(run_params, folder, record, words).bring_up_to_date(given.name)
        if given.name == "validate":
            from adaptformer.curation.labels import first_accuracy

            print(first_accuracy.text(run_params, folder))


def _run(given: argparse.Namespace) -> None:
    from adaptformer.config import run_folder
    from adaptformer.pipeline import run

    stay_offline(given)
    file, run_params = resolved(given)
    folder = (
        run_folder.isolated_folder(run_params) if given.own_folder else run_folder.folder_for(file.params, run_params)
    )
    _show_folder(folder)
    if given.stages_only:
        run.stages_only(run_params, folder, options(given))
        return
    request = run.Request(file, run_params, folder, given.preset, True if given.register else None)
    run.show(request, lambda: run.update(request))


def _show_folder(folder: RunFolder) -> None:
    if folder.isolated:
        log.info("run folder: %s/", folder.root)


def _plan(given: argparse.Namespace) -> None:
    from adaptformer.config import run_folder
    from adaptformer.model import device
    from adaptformer.pipeline import stage_runner
    from adaptformer.training import planning, setup

    if given.write and given.minutes is None:
        raise UserError("--write puts the epochs that --minutes finds into params.yaml", "give --minutes as well")
    file, run_params = resolved(given)
    # Every run with the same data and backbone can use the default folder's manifest and backbone.
    same = (file.params.data, file.params.backbone) == (run_params.data, run_params.backbone)
    folder = run_folder.RunFolder() if same else run_folder.folder_for(file.params, run_params)
    stage_runner.require_inputs("train", folder, options(given))
    start = setup.prepare(run_params, folder)
    print(f"training on {start.images('train'):,} images, validation on {start.images('validation'):,}")
    print("\n".join(start.plan(run_params.training, run_params.runtime.processes).lines()))
    minutes = start.minutes(run_params.training)
    print(
        f"time: about {minutes:.1f} minutes on {device.describe(start.device)}, "
        "measured in a few steps on random images"
    )
    for warning in start.warnings():
        print(f"warning: {warning}")
    if given.minutes is not None:
        epochs = planning.epochs_within(given.minutes, run_params.training, minutes)
        print(f"training.epochs={epochs} takes about {minutes * epochs / run_params.training.epochs:.1f} minutes")
        if given.write:
            print(_write(file, {"training.epochs": epochs}))


def _minutes(text: str) -> float:
    """Return an argument as a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError("must be a number above 0")
    return value


def _params(given: argparse.Namespace) -> None:
    from adaptformer.cli import params_page
    from adaptformer.config import params
    from adaptformer.presets import writing

    stay_offline(given)
    file, run_params = resolved(given)
    path, values = Path("params.yaml"), params.difference(file.params, run_params)
    if given.write:
        print(_write(file, values | _pins(file.params, run_params)))
        return
    text = writing.changed(path.read_text(encoding="utf-8"), values)
    print(params_page.markdown(text) if given.markdown else without_credentials(text), end="")


def _pins(present: Params, run_params: Params) -> dict[str, Any]:
    """Return the values that pin a checkpoint of the hub; a new checkpoint keeps no hash or licence of another one."""
    from adaptformer.backbones import source

    before, backbone = present.backbone, run_params.backbone
    if before.checkpoint != backbone.checkpoint:
        kept = [key for key in ("sha256", "licence") if getattr(backbone, key) == getattr(before, key)]
        backbone = backbone.model_copy(update=dict.fromkeys(kept))
    return source.pinned(backbone)


def _write(file: ParamsFile, values: dict[str, Any]) -> str:
    """Put values by dotted key into params.yaml; return those that it did not have before, as a table."""
    from adaptformer.base import text_table, yaml_text
    from adaptformer.config import params
    from adaptformer.presets import writing

    before = params.flat(file.params.model_dump(mode="json"))
    new = {key: value for key, value in values.items() if value != before[key]}
    if not new:
        return f"{file.path} has these values already"
    file.require_unchanged()
    writing.put(file.path, new)
    rows = [(key, yaml_text.line(before[key]), "->", yaml_text.line(value)) for key, value in new.items()]
    counted = "one value" if len(new) == 1 else f"{len(new)} values"
    return without_credentials(f"{file.path}: {counted} changed\n{text_table.aligned(rows)}")


def _compare(given: argparse.Namespace) -> None:
    from adaptformer.config import params
    from adaptformer.pipeline import method_runs

    method_runs.compare(params.read(), given.method, given.seed, params.parse_overrides(given.overrides))


def _sweep(given: argparse.Namespace) -> None:
    from adaptformer.config import params
    from adaptformer.pipeline import sweep_runs

    file = params.read()
    opened = sweep_runs.opened(file, given.search, given.trials, params.parse_overrides(given.overrides))
    sweep_runs.work(opened)
    _, values = sweep_runs.finish(opened)
    if given.write:
        print(_write(file, values))
        print("these are the best trial's values; `make run` evaluates them on the test split")
    else:
        words = " ".join(shlex.quote(params.as_override(key, value)) for key, value in values.items())
        print(
            f"the best trial: adaptformer params {words} --write"
            if values
            else "the best trial is params.yaml as it is"
        )
