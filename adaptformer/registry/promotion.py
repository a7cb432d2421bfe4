"""Promotion and rollback: what is in use, for which reasons, and the way back.

Everything here runs in any process, with no server, worker or GPU but MLflow's registry. The journal (moves.py)
makes a move hold or not; the lock here only keeps two askers on one machine from judging at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adaptformer import files
from adaptformer.errors import UserError
from adaptformer.gate import decision_page, judging
from adaptformer.gate.decision import Decision
from adaptformer.params import GateParams
from adaptformer.registry import candidate, decision_record, moves, versions
from adaptformer.registry.moves import Move, State
from adaptformer.tracking import mlflow_store
from adaptformer.tracking.project import promotion_lock

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger("adaptformer")

DECISIONS = Path("artifacts") / "decisions"
DATA = Path("data")
WAIT_SECONDS = 600
COMPLETED = "a move that was begun is completed then"


@dataclass(frozen=True)
class Outcome:
    """What came of asking for a promotion: the decision, and the move where there was one.

    `page` is the copy of the decision's page in this checkout, `link` the one in MLflow's pages.
    """

    name: str
    decision: Decision
    page: Path
    link: str
    moved: Move | None

    @property
    def promoted(self) -> bool:
        """Whether the challenger is champion now."""
        return self.moved is not None


def promote(name: str, bounds: GateParams, *, version: str | None, who: str, why: str) -> Outcome:
    """Judge a version of the registered model `name` (its challenger, if none is given), and move it if it passes.

    Raises UserError where there is nothing to judge, where evidence is missing, and where another move came first.
    """
    with mlflow_store.answering(COMPLETED), _one_at_a_time(name), tempfile.TemporaryDirectory() as scratch:
        client = mlflow_store.connect()
        before, wanted = _asked(client, name, version)
        challenger = candidate.gather(client, name, wanted, Path(scratch))
        # Where somebody has taken the alias away, the version that was in use last is what must be beaten.
        in_use = before.champion or before.previous
        champion = None if in_use is None else candidate.gather(client, name, in_use, Path(scratch))
        sides = candidate.judged(challenger, champion, DATA)
        looks = decision_record.earlier_looks(client, name, wanted, challenger.test_digest)
        drifts = candidate.drifts(challenger, champion, bounds.drift)
        decision = judging.decide(*sides, bounds, drifts, earlier_looks=looks)
        page = decision_page.html(decision, candidate.thumbnails(challenger, DATA))
        kept = decision_record.keep(client, name, decision, page, challenger.test_digest, who=who, why=why)
        local = DECISIONS / f"{name}-{wanted}.html"
        files.write_text(local, page)
        moved = None
        if decision.promoted:
            move = Move(
                "promotion", before, State(wanted, in_use), who, files.utc_now(),
                why or decision.sentence, kept.sha256,
            )  # fmt: skip
            try:
                moved = moves.move(client, name, move)
            except UserError as error:
                decision_record.overtaken(client, name, wanted, error.cause)
                raise
        return Outcome(name, decision, local, kept.link, moved)


def _asked(client: MlflowClient, name: str, version: str | None) -> tuple[State, str]:
    """Return what is in use and the version to judge."""
    versions.require_model(client, name)
    before = moves.settle(client, name)
    candidate = version or versions.alias(client, name, "challenger")
    if candidate is None:
        in_use = f"; version {before.champion} is champion" if before.champion else ""
        raise UserError(f"{name} has no challenger{in_use}", "train one (`make run`), or name a version")
    versions.require_version(client, name, candidate)
    if candidate == before.champion:
        raise UserError(f"version {candidate} of {name} is champion already", "nothing is to be done")
    return before, candidate


def rollback(name: str, *, to: str | None, who: str, why: str) -> Move:
    """Put a version back to use, the one before the champion if none is given, after it was loaded and run.

    Raises UserError where there is no such version, where it does not run, and where another move came first.
    """
    if not why.strip():
        raise UserError("a rollback needs a reason", "say why: it stays in the history")
    with mlflow_store.answering(COMPLETED), _one_at_a_time(name), tempfile.TemporaryDirectory() as scratch:
        client = mlflow_store.connect()
        versions.require_model(client, name)
        before = moves.settle(client, name)
        version = to or before.previous
        if version is None:
            raise UserError(f"{name} has no previous version", "name one: `adaptformer rollback --to VERSION`")
        versions.require_version(client, name, version)
        if version == before.champion:
            raise UserError(f"version {version} of {name} is champion already", "name another one with --to")
        if version not in {move.after.champion for move in moves.holding(moves.read(client, name))}:
            raise UserError(f"version {version} of {name} was never in use", "let the gate judge it: `make promote`")
        checked = candidate.require_running(candidate.gather(client, name, version, Path(scratch)), DATA)
        log.info(
            "version %s of %s runs; %d of its test images are here and answered as recorded", version, name, checked
        )
        wanted = Move("rollback", before, State(version, before.champion), who, files.utc_now(), why)
        return moves.move(client, name, wanted)


def history(name: str) -> list[tuple[Move, bool]]:
    """Return every move with whether it holds, after completing or noting what is open. Raises UserError likewise."""
    with mlflow_store.answering(COMPLETED), _one_at_a_time(name):
        client = mlflow_store.connect()
        versions.require_model(client, name)
        moves.settle(client, name)
        every = moves.read(client, name)
        held = {move.number for move in moves.holding(every)}
        return [(move, move.number in held) for move in every]


@contextlib.contextmanager
def _one_at_a_time(name: str) -> Iterator[None]:
    """Hold a lock that the system releases when this process dies; wait for it, and raise UserError in vain."""
    path = promotion_lock(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        until = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > until:
                    raise UserError(
                        f"another promotion of {name} has been going for ten minutes", "wait until it ends, or stop it"
                    ) from error
                time.sleep(0.2)
        yield
