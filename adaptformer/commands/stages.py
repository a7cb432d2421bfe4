"""The five stages as commands, all of them as one, and the params that they run with."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from adaptformer.commands.parsing import add_overrides, resolved

if TYPE_CHECKING:
    from adaptformer.commands.parsing import Commands
    from adaptformer.params import Params
    from adaptformer.run_folder import RunFolder

log = logging.getLogger("adaptformer")

STAGES = {
    "validate": "check data/, write the manifest and the data report",
    "fetch": "get the pretrained checkpoint and verify it",
    "train": "train what the method tunes, and the head; a killed run resumes",
    "evaluate": "judge the trained model on the test split",
    "export": "write model.onnx and prove that it agrees with the trained model",
}


def add(commands: Commands) -> None:
    """Add the commands of this group to the parser."""
    for name, text in STAGES.items():
        stage = commands.add_parser(name, help=text)
        add_overrides(stage)
        stage.set_defaults(command=_stage, stage=name)
    pipeline = commands.add_parser("pipeline", help="run all five stages, without MLflow and DVC")
    pipeline.add_argument(
        "--own-folder", action="store_true", help="below artifacts/runs/ also where no override changes the results"
    )
    add_overrides(pipeline)
    pipeline.set_defaults(command=_pipeline)
    shown = commands.add_parser("params", help="show params.yaml with presets and overrides in it, or write it so")
    add_overrides(shown)
    shown.add_argument("--write", action="store_true", help="put the values into params.yaml; its comments stay")
    shown.set_defaults(command=_params)


def _stage(given: argparse.Namespace) -> None:
    from adaptformer import run_folder

    file, wanted = resolved(given)
    folder = run_folder.of(file.params, wanted)
    with folder.lock(f"adaptformer {given.stage}"):
        _log_folder(folder)
        _bring_up_to_date(given.stage, wanted, folder, given)


def _pipeline(given: argparse.Namespace) -> None:
    from adaptformer import run_folder

    file, wanted = resolved(given)
    folder = run_folder.apart(wanted) if given.own_folder else run_folder.of(file.params, wanted)
    with folder.lock("adaptformer pipeline"):
        _log_folder(folder)
        for name in STAGES:
            _bring_up_to_date(name, wanted, folder, given)


def _log_folder(folder: RunFolder) -> None:
    if folder.overridden:
        log.info("run folder: %s/", folder.root)


def _bring_up_to_date(name: str, wanted: Params, folder: RunFolder, given: argparse.Namespace) -> None:
    """Run a stage unless it is current; `given` has the options that an error's remedy must repeat."""
    from adaptformer import stage_runner

    if stage_runner.is_current(name, wanted, folder):
        log.info("%s is current", name)
        return
    options = [*(word for preset in given.preset for word in ("--preset", preset)), *given.overrides]
    stage_runner.run(name, wanted, folder, options=options)


def _params(given: argparse.Namespace) -> None:
    from adaptformer import files, params
    from adaptformer.presets import writing

    file, wanted = resolved(given)
    path = Path("params.yaml")
    text = writing.changed(path.read_text(encoding="utf-8"), params.difference(file.params, wanted))
    if given.write:
        files.write_text(path, text)
    else:
        print(text, end="")
