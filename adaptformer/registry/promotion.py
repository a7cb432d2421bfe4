"""Promotion by the gate, rollback, and the history of both.

They need only MLflow's registry: no server, worker or GPU. The journal (alias_journal.py) decides which moves are
valid; the lock here only keeps two processes on one machine from judging at the same time.

A command that was killed may be run again, however far it got: if the last move was made for the same request (the same
version, person and reason, word for word), that move is the result, and no other move is made. So a repeated rollback
does not undo itself. To roll back once more, give another reason, or name the version.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from adaptformer.base import files
from adaptformer.base.errors import UserError
from adaptformer.config.params import GateParams
from adaptformer.gate import decision_page, judging
from adaptformer.gate.decision import Decision
from adaptformer.registry import alias_journal, decision_record, local_record, version_evidence, versions
from adaptformer.registry.alias_journal import Move, State
from adaptformer.tracking import mlflow_store
from adaptformer.tracking.git import user_name
from adaptformer.tracking.locations import database, root

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger("adaptformer")

DECISIONS = Path("artifacts") / "decisions"
DATA = Path("data")
LOCK_SECONDS = 600


class _ReadOnlyError(UserError):
    """The lock of a model cannot be taken, because the system refuses to write there."""


@dataclass(frozen=True)
class Outcome:
    """The result of a promotion: the decision, and the move if the gate passed.

    `page` is the copy of the decision's page in this checkout, `link` the one in MLflow's pages.
    """

    name: str
    decision: Decision
    page: Path
    link: str
    moved: Move | None
    already: bool = False
    """Whether an earlier command has made the move, for the same request."""

    @property
    def promoted(self) -> bool:
        """Whether the challenger is champion now."""
        return self.moved is not None


def promote(name: str, bounds: GateParams, *, version: str | None, who: str | None, why: str) -> Outcome:
    """Judge a version of the registered model `name`, by default its challenger, and make it champion if it passes.

    `who` is the user unless given. If there is nothing to judge because the same request has been granted already, that
    decision is returned. Raises UserError if there is nothing to judge, if files for the judgement are missing, or if
    another move came first.
    """
    who = who or user_name()
    request = alias_journal.request_of("promotion", version, who, why)
    with _settled(name) as (client, before), tempfile.TemporaryDirectory() as scratch:
        if (granted := _granted_already(client, name, version, before, request)) is not None:
            return granted
        candidate = _requested(client, name, version, before)
        challenger = version_evidence.gather(client, name, candidate, Path(scratch))
        # If the alias has been removed, the challenger is compared with the last champion.
        present = before.champion or before.previous
        champion = None if present is None else version_evidence.gather(client, name, present, Path(scratch))
        sides = version_evidence.judged(challenger, champion, DATA, bounds)
        looks = decision_record.earlier_looks(client, name, candidate, challenger.test_digest)
        drifts = version_evidence.drifts(challenger, champion, bounds.warn_drift)
        decision = judging.decide(*sides, bounds, drifts, earlier_looks=looks)
        page = decision_page.html(decision, version_evidence.thumbnails(challenger, DATA))
        kept = decision_record.keep(client, name, decision, page, challenger.test_digest, who=who, why=why)
        local = DECISIONS / f"{name}-{candidate}.html"
        files.write_text(local, page)
        moved = None
        if decision.promoted:
            reason = why or decision.sentence
            after = State(candidate, present)
            move = Move("promotion", before, after, who, files.utc_now(), reason, kept.sha256, request=request)
            try:
                moved = alias_journal.move(client, name, move)
            except UserError as error:
                decision_record.overtaken(client, name, candidate, error.cause)
                raise
            local_record.keep(challenger.model)
        return Outcome(name, decision, local, kept.link, moved)


def _granted_already(
    client: MlflowClient, name: str, version: str | None, before: State, request: str
) -> Outcome | None:
    """Return the outcome of an earlier command with the same request, None if there is a version to judge."""
    candidate = version or versions.alias(client, name, "challenger")
    made = alias_journal.made_already(client, name, request)
    if made is None or candidate not in {None, before.champion} or made.after.champion is None:
        return None
    decision, page, kept = decision_record.read(client, name, made.after.champion, made.evidence)
    local = DECISIONS / f"{name}-{made.after.champion}.html"
    files.write_text(local, page)
    log.info("this was done already: %s", made.sentence)
    return Outcome(name, decision, local, kept.link, made, already=True)


def _requested(client: MlflowClient, name: str, version: str | None, before: State) -> str:
    """Return the version to judge."""
    candidate = version or versions.alias(client, name, "challenger")
    if candidate is None:
        state = f"; version {before.champion} is champion" if before.champion else ""
        raise UserError(f"{name} has no challenger{state}", "train one (`make run`), or name a version")
    versions.require_version(client, name, candidate)
    if candidate == before.champion:
        raise UserError(f"version {candidate} of {name} is champion already", "there is nothing to do")
    return candidate


def rollback(name: str, *, to: str | None, who: str | None, why: str) -> Move:
    """Make a former champion, by default the previous one, champion again, after loading and running it.

    `who` is the user unless given. If the last move was made for the same request, that move is returned and no other
    is made. Raises UserError if there is no such version, if it does not run, or if another move came first.
    """
    if not why.strip():
        raise UserError("a rollback needs a reason", "give one with --why; the history keeps it")
    who = who or user_name()
    request = alias_journal.request_of("rollback", to, who, why)
    with _settled(name) as (client, before), tempfile.TemporaryDirectory() as scratch:
        if (made := alias_journal.made_already(client, name, request)) is not None:
            log.info("this was done already; to move once more, give another reason, or a version with --to")
            return made
        version = to or before.previous
        if version is None:
            raise UserError(f"{name} has no previous version", "name one: `adaptformer rollback --to VERSION`")
        versions.require_version(client, name, version)
        if version == before.champion:
            raise UserError(f"version {version} of {name} is champion already", "name another one with --to")
        if version not in {move.after.champion for move in alias_journal.valid(alias_journal.read(client, name))}:
            raise UserError(f"version {version} of {name} was never in use", "let the gate judge it: `make promote`")
        former = version_evidence.gather(client, name, version, Path(scratch))
        checked = version_evidence.require_running(former, DATA)
        log.info(
            "version %s of %s runs; %d of its test images are here and answered as recorded", version, name, checked
        )
        after = State(version, before.champion)
        rollback_move = Move("rollback", before, after, who, files.utc_now(), why, request=request)
        moved = alias_journal.move(client, name, rollback_move)
        local_record.keep(former.model)
        return moved


def history(name: str) -> list[tuple[Move, bool]]:
    """Return every move with whether it is valid, once all are settled. Raises UserError for an unknown model.

    A read-only checkout, in which nothing can be settled, gives the journal as it is.
    """
    with contextlib.ExitStack() as held:
        try:
            client, _ = held.enter_context(_settled(name))
        except _ReadOnlyError:
            held.enter_context(mlflow_store.user_errors("nothing was changed"))
            client = mlflow_store.connect()
            versions.require_model(client, name)
        every = alias_journal.read(client, name)
        valid = alias_journal.valid(every)
        return [(move, move in valid) for move in every]


@contextlib.contextmanager
def _settled(name: str) -> Iterator[tuple[MlflowClient, State]]:
    """Hold the promotion lock of a model whose journal and aliases agree; yield a client and what is in use.

    The lock is a file beside MLflow's local database or in the checkout's root; the system releases it when the process
    dies. The checkout's record of the versions in use (local_record.py) is written anew at the end. Raises UserError if
    there is no such model, if MLflow fails, if the lock is not free within ten minutes, or if the checkout cannot be
    written.
    """
    store = database() or root() / "mlflow.db"
    lock = FileLock(store.with_name(f"{store.name}.{files.sha256_text(name)[:12]}.lock"))
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        held = lock.acquire(timeout=LOCK_SECONDS)
    except Timeout as error:
        raise UserError(
            f"another promotion of {name} has been running for ten minutes", "wait until it ends, or stop it"
        ) from error
    except OSError as error:
        refused = files.refusal(error, store.parent)
        raise _ReadOnlyError(*(refused.args if refused else (str(error), "make it writable"))) from error
    with held, mlflow_store.user_errors("that completes a move that was begun"):
        client = mlflow_store.connect()
        versions.require_model(client, name)
        local_record.forget(name)
        try:
            yield client, alias_journal.settle(client, name)
        finally:
            with contextlib.suppress(Exception):  # without a record, MLflow is asked
                local_record.remember(client, name)
