"""`python -m flows COMMAND`: what acts beyond a run folder, in this process, without a server or a worker."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from adaptformer.params import parse_overrides
from flows.local import opened

REFUSED = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    given = _parser().parse_args(arguments)
    return opened(lambda: int(given.command(given)))


class _Parser(argparse.ArgumentParser):
    """Ends with 1 where it is called wrongly: 2, which argparse takes, means refused here."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and how to call it."""
        self.exit(1, f"error: {message}\n  fix: {self.format_usage()}")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m flows", description="Run the pipeline, and what follows it, here.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="bring the whole pipeline up to date, track and register it (`make run`)")
    run.add_argument("--preset", action="append", default=[], metavar="NAME", help="repeatable")
    run.add_argument("--register", action="store_true", help="register the model of a run with overrides too")
    run.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as tuning.epochs=3")
    run.set_defaults(command=_run)

    compare = commands.add_parser("compare", help="set methods side by side on the same data (`make compare`)")
    compare.add_argument("--method", action="append", metavar="'PRESET… KEY=VALUE…'", help="repeatable")
    compare.add_argument("--seed", action="append", type=int, help="repeatable")
    compare.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="for all methods, such as tuning.epochs=3")
    compare.set_defaults(command=_compare)

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
    history.add_argument("--model", help="registered model (default: registry.model of params.yaml)")
    history.add_argument("--json", action="store_true", help="as JSON, a line each")
    history.set_defaults(command=_history)

    upload = commands.add_parser("upload", help="upload runs that MLflow missed while it did not answer")
    upload.set_defaults(command=_upload)

    log = commands.add_parser("log", help="log what `dvc repro` and `dvc exp run` made to MLflow, each result once")
    log.add_argument("--exp", action="append", default=[], metavar="NAME", help="only this experiment; repeatable")
    log.set_defaults(command=_log)

    lineage = commands.add_parser("lineage", help="show which versions saw an image, or what went into a version")
    lineage.add_argument("what", metavar="WHAT", help="image file, sha256 of one, version number, or alias")
    lineage.add_argument("--model", help="registered model (default: registry.model of params.yaml)")
    lineage.add_argument("--all", action="store_true", help="look for the image in every registered model")
    lineage.set_defaults(command=_lineage)
    return parser


def _run(given: argparse.Namespace) -> int:
    from flows.local import run

    return run(given.preset, parse_overrides(given.overrides), True if given.register else None)


def _compare(given: argparse.Namespace) -> int:
    from adaptformer.run_folder import RunFolder
    from flows.local import make_sample_if_wanted, temporary_server

    overrides = parse_overrides(given.overrides)
    make_sample_if_wanted(RunFolder())
    with temporary_server("make-compare"):
        from flows.compare import compare

        compare(given.method, given.seed, overrides)
    return 0


def _add_who_and_why(command: argparse.ArgumentParser, *, why_is_needed: bool) -> None:
    command.add_argument("--model", help="registered model (default: registry.model of params.yaml)")
    command.add_argument("--who", help="who asks, for the history (default: git's user name)")
    command.add_argument("--why", default="", required=why_is_needed, help="the reason, for the history")


def _promote(given: argparse.Namespace) -> int:
    from adaptformer.gate.decision import table
    from adaptformer.params import load
    from adaptformer.registry import promotion
    from adaptformer.tracking.git import user_name

    params = load()
    outcome = promotion.promote(
        given.model or params.registry.model, params.gate,
        version=given.version, who=given.who or user_name(), why=given.why,
    )  # fmt: skip
    print(f"{table(outcome.decision)}\n\nthe decision, with images: {outcome.page}")
    return 0 if outcome.promoted else REFUSED


def _rollback(given: argparse.Namespace) -> int:
    from adaptformer.params import load
    from adaptformer.registry import promotion
    from adaptformer.tracking.git import user_name

    name = given.model or load().registry.model
    print(promotion.rollback(name, to=given.to, who=given.who or user_name(), why=given.why).sentence)
    return 0


def _history(given: argparse.Namespace) -> int:
    from adaptformer.params import load
    from adaptformer.registry import moves, promotion

    every = promotion.history(given.model or load().registry.model)
    print(moves.as_json(every) if given.json else moves.as_table(every))
    return 0


def _upload(_given: argparse.Namespace) -> int:
    from flows.backlog import upload

    return upload()


def _log(given: argparse.Namespace) -> int:
    from flows.backlog import log

    return log(given.exp)


def _lineage(given: argparse.Namespace) -> int:
    from flows.lineage import show

    return show(given.what, given.model, given.all)


if __name__ == "__main__":
    sys.exit(main())
