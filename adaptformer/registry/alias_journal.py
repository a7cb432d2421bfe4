"""The journal of a registered model: every move of its aliases, written before it is made and never changed.

A second registered model, NAME-history, holds the journal of the model NAME. Each of its versions is one move; its tags
say who moved the aliases, when, from where, to where, why and on what evidence. MLflow gives each version number to one
caller only, but a tag or an alias keeps the value that was written last. So two concurrent promotions both write a
move; the one with the lower number is valid, and the other one is void, because it starts from a version that is no
longer champion. The valid moves decide which version is in use. The aliases are a copy of that for readers; the next
reader of the journal corrects them.
"""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic.dataclasses import dataclass

from adaptformer.base import files, text_table
from adaptformer.base.errors import UserError
from adaptformer.tracking import mlflow_store

if TYPE_CHECKING:
    from mlflow import MlflowClient

Kind = Literal["promotion", "rollback", "outside"]
MOVE_TAG = "move"
DONE_TAG = "done"
OUTSIDE = "somebody outside adaptformer"
ROUNDS = 20


@dataclass(frozen=True)
class State:
    """The version in use and the one before it, which the aliases `champion` and `previous` should name."""

    champion: str | None = None
    previous: str | None = None


@dataclass(frozen=True)
class Move:
    """One move from a state to another; `when` is UTC in ISO form, `evidence` the sha256 of the decision, or "".

    `id` is unique to the move: a call to MLflow that is sent again because its answer was lost writes the same id
    twice. `request` is a person's request (`request_of`): a command that is run again because it was killed has the
    same request.
    """

    kind: Kind
    before: State
    after: State
    who: str
    when: str
    why: str
    evidence: str = ""
    id: str = ""
    request: str = ""
    number: int = 0
    done: bool = False

    def to_json(self) -> str:
        """Return the move as the journal stores it."""
        content = dataclasses.asdict(self)
        return files.canonical_json({key: content[key] for key in content if key not in {"number", "done"}})

    @property
    def sentence(self) -> str:
        """The move in words."""
        before, after = (
            f"version {state.champion}" if state.champion else "no version" for state in (self.before, self.after)
        )
        return f"{self.kind}: {after} in place of {before}, by {self.who} on {self.when}: {self.why}"


def request_of(kind: Kind, version: str | None, who: str, why: str) -> str:
    """Return a request for a move as the journal stores it: the version, reason and person as they were given."""
    return files.canonical_json({"kind": kind, "version": version, "who": who, "why": why})


def history_name(name: str) -> str:
    """Return the name of the registered model that holds the journal of `name`."""
    return f"{name}-history"


def read(client: MlflowClient, name: str) -> list[Move]:
    """Return every move ever written, void ones included, in their order."""
    return [
        Move(**json.loads(version.tags[MOVE_TAG]), number=int(version.version), done=DONE_TAG in version.tags)
        for version in mlflow_store.versions_of(client, history_name(name))
        if MOVE_TAG in version.tags
    ]


def valid(moves: Sequence[Move]) -> list[Move]:
    """Return the valid moves: each starts from the state that the valid one before it led to."""
    moves_in_force: list[Move] = []
    for move in moves:
        if move.before == (moves_in_force[-1].after if moves_in_force else State()):
            moves_in_force.append(move)
    return moves_in_force


def settle(client: MlflowClient, name: str) -> State:
    """Make aliases and journal agree, and return the state that the journal leads to.

    A move that a killed process left unfinished is completed. An alias that a person moved in MLflow stays as it is,
    and the journal records that as a move from outside. If both agree already, nothing is written.
    """
    written: State | None = None
    for _ in range(ROUNDS):
        last = _last(client, name)
        expected = last.after if last else State()
        seen = aliases(client, name)
        if seen == expected:
            if last is None or last.done:
                return expected
            _finish(client, name, last)
        elif last is not None and (seen == written or (not last.done and _is_halfway(seen, last))):
            if _last(client, name) == last:  # otherwise another move has been written since
                _apply(client, name, last)
                written = last.after  # another process may have made a move meanwhile, so the next round checks
        else:
            _write(client, name, _outside_move(expected, seen, _versions(client, name)))
    raise UserError(f"the aliases of {name} keep changing", "find out who else is moving them, then try again")


def _last(client: MlflowClient, name: str) -> Move | None:
    """Return the last valid move."""
    return next(reversed(valid(read(client, name))), None)


def made_already(client: MlflowClient, name: str, request: str) -> Move | None:
    """Return the last move of a settled model if it was made for exactly this request, else None."""
    last = _last(client, name)
    return last if last is not None and last.request == request else None


def move(client: MlflowClient, name: str, request: Move) -> Move:
    """Write a move to the journal, then make it, and return it with its number.

    Raises UserError if another move came first; then no alias is moved.
    """
    if settle(client, name) != request.before:  # an alias was moved since the caller read the state
        raise _overtaken(client, name)
    request = dataclasses.replace(request, id=uuid.uuid4().hex)
    _write(client, name, request)
    after = settle(client, name)
    made = next((one for one in valid(read(client, name)) if one.id == request.id), None)
    if made is None or after != request.after:
        raise _overtaken(client, name)
    return made


def _overtaken(client: MlflowClient, name: str) -> UserError:
    last = _last(client, name)
    other = last.sentence if last else "the journal changed"
    return UserError(f"another move of {name} came first ({other})", "see `adaptformer history`, then try again")


def withdrawn(moves: Sequence[Move], version: str) -> Move | None:
    """Return the move by which a person last took a version out of use, None if it has been champion again since."""
    withdrawal = None
    for one in valid(moves):
        if one.after.champion == version:
            withdrawal = None
        elif one.before.champion == version and one.kind != "promotion":
            withdrawal = one
    return withdrawal


def aliases(client: MlflowClient, name: str) -> State:
    """Return the state that the aliases show now."""
    numbers = client.get_registered_model(name).aliases
    return State(*(str(numbers[alias]) if alias in numbers else None for alias in ("champion", "previous")))


def _is_halfway(seen: State, last: Move) -> bool:
    """Return whether a process that was killed during this move can have left the aliases like this."""
    ends = (last.before, last.after)
    return seen.champion in {end.champion for end in ends} and seen.previous in {end.previous for end in ends}


def _apply(client: MlflowClient, name: str, last: Move) -> None:
    """Set both aliases; delete one whose version has been deleted."""
    there = _versions(client, name)
    for alias, version in (("previous", last.after.previous), ("champion", last.after.champion)):
        if version in there:
            client.set_registered_model_alias(name, alias, version)
        else:
            client.delete_registered_model_alias(name, alias)


def _finish(client: MlflowClient, name: str, last: Move) -> None:
    """Remove the alias `challenger` from the new champion, and mark the move as done."""
    challenger = client.get_registered_model(name).aliases.get("challenger")
    if challenger is not None and str(challenger) == last.after.champion:
        client.delete_registered_model_alias(name, "challenger")
    client.set_model_version_tag(history_name(name), str(last.number), DONE_TAG, "true")


def _versions(client: MlflowClient, name: str) -> dict[str, Any]:
    return {str(version.version): version for version in mlflow_store.versions_of(client, name)}


def _outside_move(before: State, seen: State, there: Collection[str]) -> Move:
    # If only `champion` was moved, a rollback must still be possible: `previous` becomes the champion before the move,
    # if that version still exists.
    previous = before.champion if seen.previous == before.previous and before.champion in there else seen.previous
    after = State(seen.champion, previous)
    return Move("outside", before, after, OUTSIDE, files.utc_now(), "not made with adaptformer; found by this date")


def _write(client: MlflowClient, name: str, entry: Move) -> None:
    """Add a move to the journal as a new version, which points to the files of a version of `name`."""
    history = history_name(name)
    if not client.search_registered_models(f"name = {mlflow_store.quoted(history)}"):
        _create(client, name, history)
    there = _versions(client, name)
    candidates = [entry.after.champion, entry.before.champion, *there]
    source = next((there[version] for version in candidates if version in there), None)
    if source is None:
        raise UserError(f"{name} has no version left", "train and register a model first")
    # MLflow's server needs the source and the id of the logged model that it names.
    logged = source.source.removeprefix("models:/") if source.source.startswith("models:/m-") else None
    client.create_model_version(
        history, source.source, source.run_id, {MOVE_TAG: entry.to_json(), "kind": entry.kind},
        description=entry.sentence, model_id=logged,
    )  # fmt: skip


def _create(client: MlflowClient, name: str, history: str) -> None:
    try:
        client.create_registered_model(
            history,
            {"history_of": name},
            f"Every move of the aliases of {name}: each version is one move, with the model that became champion.",
        )
    except Exception:
        # If it exists now, another process was faster.
        if not client.search_registered_models(f"name = {mlflow_store.quoted(history)}"):
            raise


def as_table(moves: Sequence[tuple[Move, bool]]) -> str:
    """Return moves, each with whether it is valid, as aligned lines for a terminal, the latest last."""
    if not moves:
        return "no version has been in use yet"
    headers = ("", "when (UTC)", "what", "champion", "who", "why")
    rows = [
        (
            str(move.number),
            move.when,
            move.kind if is_valid else f"{move.kind}, void: another came first",
            f"{move.before.champion or '-'} -> {move.after.champion or '-'}",
            move.who,
            move.why,
        )
        for move, is_valid in moves
    ]
    return text_table.aligned(rows, headers)


def as_json(moves: Sequence[tuple[Move, bool]]) -> str:
    """Return moves as JSON, one object per line."""
    return "\n".join(
        json.dumps({**dataclasses.asdict(move), "valid": is_valid}, sort_keys=True) for move, is_valid in moves
    )
