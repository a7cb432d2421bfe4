"""Which version is in use, and why: promote, rollback, history, lineage."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from adaptformer.commands import exit_code

if TYPE_CHECKING:
    from adaptformer.commands.parsing import Commands


def add(commands: Commands) -> None:
    """Add the commands of this group to the parser."""
    promote = commands.add_parser(
        "promote", help="judge the challenger and make it champion if it passes the gate: exit 0 promoted, 2 refused"
    )
    promote.add_argument("--version", help="judge this version instead")
    _add_who_and_why(promote, why_is_needed=False)
    promote.set_defaults(command=_promote)

    rollback = commands.add_parser("rollback", help="put the version before the champion back to use")
    rollback.add_argument("--to", metavar="VERSION", help="put this version to use instead")
    _add_who_and_why(rollback, why_is_needed=True)
    rollback.set_defaults(command=_rollback)

    history = commands.add_parser("history", help="show every move: who, when, from, to, why")
    history.add_argument("--json", action="store_true", help="as JSON, a line each")
    history.set_defaults(command=_history)

    lineage = commands.add_parser("lineage", help="show which versions saw an image, or what went into a version")
    lineage.add_argument("what", metavar="WHAT", help="image file, sha256 of one, version number, or alias")
    lineage.add_argument("--all", action="store_true", help="look for the image in every registered model")
    lineage.set_defaults(command=_lineage)
    for command in (promote, rollback, history, lineage):
        command.add_argument("--model", help="registered model (default: registry.model of params.yaml)")


def _add_who_and_why(command: argparse.ArgumentParser, *, why_is_needed: bool) -> None:
    command.add_argument("--who", help="who asks, for the history (default: git's user name)")
    command.add_argument("--why", default="", required=why_is_needed, help="the reason, for the history")


def _model(given: argparse.Namespace) -> str:
    from adaptformer import params

    return str(given.model or params.load().registry.model)


def _promote(given: argparse.Namespace) -> int:
    from adaptformer import params
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
    from adaptformer.registry import moves, promotion

    every = promotion.history(_model(given))
    print(moves.as_json(every) if given.json else moves.as_table(every))


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
