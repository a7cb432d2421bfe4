"""Commands about the version in use: promote, rollback, history, lineage, monitor."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from adaptformer.base.errors import UserError
from adaptformer.cli import exit_code
from adaptformer.cli.parsing import add_model_option, positive, share

if TYPE_CHECKING:
    from adaptformer.cli.parsing import Commands
    from adaptformer.config.run_folder import RunFolder
    from adaptformer.monitoring.monitor import MonitoredModel
    from adaptformer.registry.model_choice import ModelChoice

RESULTS = Path("artifacts/monitor")
"""The folder in which `monitor` writes its page and tables."""


def add(commands: Commands) -> None:
    """Add the commands of this group to the parser."""
    promote = commands.add_parser(
        "promote", help="judge the challenger and make it champion if it passes the gate: exit 0 promoted, 2 refused"
    )
    promote.add_argument("--version", help="judge this version instead")
    _add_who_and_why(promote, why_is_needed=False)
    promote.set_defaults(command=_promote)

    rollback = commands.add_parser("rollback", help="make the champion's predecessor champion again")
    rollback.add_argument("--to", metavar="VERSION", help="make this former champion champion instead")
    _add_who_and_why(rollback, why_is_needed=True)
    rollback.set_defaults(command=_rollback)

    history = commands.add_parser("history", help="show every move: who, when, from, to, why")
    history.add_argument("--json", action="store_true", help="print JSON, one line per move")
    history.set_defaults(command=_history, reads_data=False)

    lineage = commands.add_parser("lineage", help="show which versions saw an image, or what went into a version")
    lineage.add_argument("what", metavar="WHAT", help="image file, sha256 of one, version number, or alias")
    lineage.add_argument("--all", action="store_true", help="look for the image in every registered model")
    lineage.set_defaults(command=_lineage, reads_data=False)
    monitor = commands.add_parser(
        "monitor", help="run the champion on new images without labels: expected accuracy, drift, what to label next"
    )
    monitor.add_argument("folder", type=Path, help="new images, in any depth")
    add_model_option(monitor)
    monitor.add_argument(
        "--label", type=positive, default=50, metavar="K", help="number of images to label next (default: %(default)s)"
    )
    monitor.add_argument(
        "--at-least", type=share, metavar="SHARE", help="exit 2 if the expected accuracy may be below this"
    )
    monitor.set_defaults(command=_monitor)
    for command in (promote, rollback, history, lineage):
        command.add_argument("--model", help="registered model (default: registry.model of params.yaml)")


def _add_who_and_why(command: argparse.ArgumentParser, *, why_is_needed: bool) -> None:
    command.add_argument("--who", help="who asks, for the history (default: git's user name)")
    command.add_argument("--why", default="", required=why_is_needed, help="the reason, for the history")


def _model(given: argparse.Namespace) -> str:
    from adaptformer.config import params

    return str(given.model or params.load().registry.model)


def _promote(given: argparse.Namespace) -> int:
    from adaptformer.config import params
    from adaptformer.gate.decision import table
    from adaptformer.registry import promotion

    loaded = params.load()
    name = given.model or loaded.registry.model
    outcome = promotion.promote(name, loaded.gate, version=given.version, who=given.who, why=given.why)
    print(f"{table(outcome.decision)}\n\nthe decision, with images: {outcome.page}")
    return 0 if outcome.promoted else exit_code.REFUSED


def _rollback(given: argparse.Namespace) -> None:
    from adaptformer.registry import promotion

    print(promotion.rollback(_model(given), to=given.to, who=given.who, why=given.why).sentence)


def _history(given: argparse.Namespace) -> None:
    from adaptformer.registry import alias_journal, promotion

    every = promotion.history(_model(given))
    print(alias_journal.as_json(every) if given.json else alias_journal.as_table(every))


def _monitor(given: argparse.Namespace) -> int:
    """Return exit code 2, as for a refused model, if the new images differ or the expected accuracy may be too low."""
    import sys
    import tempfile

    from adaptformer.base import csv_file, files
    from adaptformer.config import params
    from adaptformer.config.run_folder import RunFolder
    from adaptformer.data.cache import ImageCache
    from adaptformer.model import device
    from adaptformer.monitoring import label_next, monitor, report
    from adaptformer.monitoring.new_images import FeatureStorage
    from adaptformer.registry import model_choice

    settings, folder = params.load(), RunFolder()
    with tempfile.TemporaryDirectory() as scratch, RunFolder(RESULTS).lock("adaptformer monitor"):
        choice = model_choice.choose(given.model, folder, ask=True)
        print(choice.line, file=sys.stderr)
        monitored = _monitored_model(choice, folder, Path(scratch))
        storage = FeatureStorage(
            device.choose(settings.runtime.device, settings.runtime.threads),
            ImageCache(folder.image_cache, settings.runtime.image_cache_gb),
            folder.embeddings,
        )
        findings = monitor.monitor_images(monitored, given.folder, folder.data, given.label, storage)
    answers, to_label, page = RESULTS / "images.csv", RESULTS / "label_next.csv", RESULTS / "monitor.html"
    files.write_text(answers, csv_file.text(findings.table))
    files.write_text(to_label, label_next.to_complete(findings.table, given.folder))
    files.write_text(page, report.html(findings, given.folder, to_label))
    print("\n".join(findings.lines()))
    print(f"the page: {page}; all answers: {answers}; images to label next: {to_label}")
    accuracy = findings.accuracy
    too_low = given.at_least is not None and (accuracy is None or accuracy.low < given.at_least)
    if too_low and accuracy is not None:
        print(f"the expected accuracy may be below {given.at_least:.1%}")
    return exit_code.REFUSED if too_low or findings.drifted() else 0


def _monitored_model(choice: ModelChoice, folder: RunFolder, scratch: Path) -> MonitoredModel:
    """Return a chosen model with its data and backbone: those of a registered version, or of the file's run folder."""
    from adaptformer.monitoring.monitor import MonitoredModel
    from adaptformer.registry import version_evidence
    from adaptformer.tracking import mlflow_store

    if choice.file is not None:
        return _results_of(choice.file, scratch)
    with mlflow_store.user_errors("nothing was changed"):
        evidence = version_evidence.gather(mlflow_store.connect(), choice.name, choice.version, scratch)
    name = f"{choice.name} version {choice.version}"
    return MonitoredModel(name, evidence.model, evidence.manifest, evidence.profile, folder.backbone)


def _results_of(model: Path, scratch: Path) -> MonitoredModel:
    """Return the model of a run folder as a copy, because no lock keeps a run from replacing it meanwhile.

    Raises UserError if files are missing or do not belong together.
    """
    import shutil

    from adaptformer.config.run_folder import RunFolder
    from adaptformer.data import manifest
    from adaptformer.monitoring.monitor import MonitoredModel
    from adaptformer.prediction import model_file
    from adaptformer.registry import result_check

    folder, copies = RunFolder(model.parent), RunFolder(scratch)
    for path in (folder.model, folder.manifest, folder.profile, folder.backbone):
        if not path.is_file():
            raise UserError(
                f"{path} is missing, so the data that {model} learned from are unknown",
                "run the pipeline first (`make run`), or name a registered version: --model champion",
            )
    for name in ("model", "model_weights", "profile"):
        if (path := getattr(folder, name)).is_file():
            shutil.copyfile(path, getattr(copies, name))
    result_check.require(folder)
    if model_file.sha256(copies.model) != model_file.sha256(folder.model):
        raise UserError(f"{model} is being replaced by a run", "run the same command again when the run has ended")
    table = manifest.read_manifest(folder.manifest)
    return MonitoredModel(f"the model in {folder.root}/", copies.model, table, copies.profile, folder.backbone)


def _lineage(given: argparse.Namespace) -> None:
    from adaptformer.registry import lineage
    from adaptformer.tracking import mlflow_store

    sha256 = lineage.image(given.what)
    name = _model(given)
    with mlflow_store.user_errors("nothing was changed"):
        client = mlflow_store.connect()
        if sha256 is None:
            print(lineage.origin(client, name, given.what).text)
        else:
            print(lineage.who_saw(client, lineage.models() if given.all else [name], sha256).text)
