"""The journal of a registered model: every move of its aliases, written down before it is made, and never changed.

Registered model NAME has a second one, NAME-history, each version of which is one move: its tags say who, when, from
where, to where, why and on what evidence. MLflow gives versions their numbers one after the other, each to one caller
only; tags and aliases are whoever's wrote last. So two promotions at once both write a move, the one with the lower
number holds, and the other one, which starts from a champion that is none any more, is void. What the moves add up to
is the truth; the aliases are its copy for readers, and who reads the journal first mends them.
"""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from adaptformer import files, text_table
from adaptformer.errors import UserError

if TYPE_CHECKING:
    from mlflow import MlflowClient

Kind = Literal["promotion", "rollback", "outside"]
MOVE_TAG = "move"
DONE_TAG = "done"
OUTSIDE = "somebody outside adaptformer"
ROUNDS = 20


@dataclass(frozen=True)
class State:
    """Which versions are in use, and were before: what the aliases `champion` and `previous` ought to say."""

    champion: str | None = None
    previous: str | None = None


@dataclass(frozen=True)
class Move:
    """One move from a state to another; `when` is UTC in ISO form, `evidence` the sha256 of the decision, or empty.

    `id` tells a move from another one like it: a request that is sent again, since its answer was lost, is the same.
    """

    kind: Kind
    before: State
    after: State
    who: str
    when: str
    why: str
    evidence: str = ""
    id: str = ""
    number: int = 0
    done: bool = False

    def to_json(self) -> str:
        """Return what the journal keeps of the move."""
        content = dataclasses.asdict(self)
        return files.canonical_json({key: content[key] for key in content if key not in {"number", "done"}})

    @classmethod
    def from_json(cls, text: str, number: int, done: bool) -> Move:
        """Return the move that `to_json` described."""
        content = json.loads(text)
        before, after = (State(**content.pop(key)) for key in ("before", "after"))
        return cls(**content, before=before, after=after, number=number, done=done)

    @property
    def sentence(self) -> str:
        """What happened, for people."""
        before, after = (_named(state.champion) for state in (self.before, self.after))
        return f"{self.kind}: {after} in place of {before}, by {self.who} on {self.when}: {self.why}"


def _named(version: str | None) -> str:
    return f"version {version}" if version else "no version"


def history_name(name: str) -> str:
    """Return the name of the registered model that keeps the moves of `name`."""
    return f"{name}-history"


def read(client: MlflowClient, name: str) -> list[Move]:
    """Return every move ever written, void ones included, in their order."""
    moves = []
    token = None
    while True:
        page = client.search_model_versions(f"name = '{history_name(name)}'", page_token=token)
        moves += [
            Move.from_json(version.tags[MOVE_TAG], int(version.version), DONE_TAG in version.tags)
            for version in page
            if MOVE_TAG in version.tags
        ]
        token = page.token
        if not token:
            return sorted(moves, key=lambda move: move.number)


def holding(moves: Sequence[Move]) -> list[Move]:
    """Return the moves that hold: each begins where the one before it ended."""
    held: list[Move] = []
    for move in moves:
        if move.before == (held[-1].after if held else State()):
            held.append(move)
    return held


def settle(client: MlflowClient, name: str) -> State:
    """Complete the move that a killed process left half done, note what was moved elsewhere, and return what holds.

    A person who moves an alias in MLflow's pages is not fought: the move is written down as outside work. Where nothing
    is to be done, nothing is written.
    """
    mine: State | None = None
    for _ in range(ROUNDS):
        held = holding(read(client, name))
        last = held[-1] if held else None
        truth = last.after if last else State()
        seen = aliases(client, name)
        if seen == truth:
            if last is None or last.done:
                return truth
            _tidy(client, name, last)
        elif last is not None and (seen == mine or (not last.done and _is_halfway(seen, last))):
            if holding(read(client, name))[-1] == last:  # else another move came since
                _apply(client, name, last)
                mine = last.after  # what was read may be old by now: whoever wrote last looks once more, and mends
        else:
            _write(client, name, _outside_move(truth, seen, _versions(client, name)))
    raise UserError(f"the aliases of {name} do not come to rest", "see who else is moving them, then try again")


def move(client: MlflowClient, name: str, wanted: Move) -> Move:
    """Write a move down, then make it, and return it with its number.

    Raises UserError where another move came first; then nothing of this one is made.
    """
    if settle(client, name) != wanted.before:  # somebody moved an alias since the asker looked
        raise _overtaken(client, name)
    wanted = dataclasses.replace(wanted, id=uuid.uuid4().hex)
    _write(client, name, wanted)
    after = settle(client, name)
    made = next((one for one in holding(read(client, name)) if one.id == wanted.id), None)
    if made is None or after != wanted.after:
        raise _overtaken(client, name)
    return made


def _overtaken(client: MlflowClient, name: str) -> UserError:
    held = holding(read(client, name))
    other = held[-1].sentence if held else "the journal changed"
    return UserError(f"another move of {name} came first ({other})", "look at `adaptformer history`, then ask again")


def withdrawn(moves: Sequence[Move], version: str) -> Move | None:
    """Return the move by which a person last took a version out of use, unless it has been put to use again since."""
    found = None
    for one in holding(moves):
        if one.after.champion == version:
            found = None
        elif one.before.champion == version and one.kind != "promotion":
            found = one
    return found


def aliases(client: MlflowClient, name: str) -> State:
    """Return what the aliases say at this moment."""
    found = client.get_registered_model(name).aliases
    champion, previous = (found.get(alias) for alias in ("champion", "previous"))
    return State(*(None if version is None else str(version) for version in (champion, previous)))


def _is_halfway(seen: State, last: Move) -> bool:
    """Say whether the aliases are where a process that was killed while it made this move would have left them."""
    return seen.champion in {last.before.champion, last.after.champion} and seen.previous in {
        last.before.previous,
        last.after.previous,
    }


def _apply(client: MlflowClient, name: str, last: Move) -> None:
    there = _versions(client, name)
    for alias, version in (("previous", last.after.previous), ("champion", last.after.champion)):
        if version in there:
            client.set_registered_model_alias(name, alias, version)
        else:
            client.delete_registered_model_alias(name, alias)


def _tidy(client: MlflowClient, name: str, last: Move) -> None:
    """Take the alias `challenger` from what is champion now, and mark the move as made."""
    challenger = client.get_registered_model(name).aliases.get("challenger")
    if challenger is not None and str(challenger) == last.after.champion:
        client.delete_registered_model_alias(name, "challenger")
    client.set_model_version_tag(history_name(name), str(last.number), DONE_TAG, "true")


def _versions(client: MlflowClient, name: str) -> dict[str, Any]:
    return {str(found.version): found for found in client.search_model_versions(f"name = '{name}'")}


def _outside_move(truth: State, seen: State, there: Collection[str]) -> Move:
    # Who moved only `champion` still wants the way back: `previous` becomes what was in use before, if it still exists.
    previous = truth.champion if seen.previous == truth.previous and truth.champion in there else seen.previous
    after = State(seen.champion, previous)
    return Move("outside", truth, after, OUTSIDE, files.utc_now(), "found when the aliases were next looked at")


def _write(client: MlflowClient, name: str, wanted: Move) -> int:
    history = history_name(name)
    if not client.search_registered_models(f"name = '{history}'"):
        _create(client, name, history)
    there = _versions(client, name)
    named = [wanted.after.champion, wanted.before.champion, *sorted(there, key=int)]
    source = next((there[version] for version in named if version in there), None)
    if source is None:
        raise UserError(f"{name} has no version left", "train and register a model first")
    written = client.create_model_version(
        history, source.source, source.run_id, {MOVE_TAG: wanted.to_json(), "kind": wanted.kind},
        description=wanted.sentence, model_id=_model_id(source.source),
    )  # fmt: skip
    return int(written.version)


def _model_id(source: str) -> str | None:
    """Return the id of the logged model that a version's source names; MLflow's server asks for both."""
    return source.removeprefix("models:/") if source.startswith("models:/m-") else None


def _create(client: MlflowClient, name: str, history: str) -> None:
    try:
        client.create_registered_model(
            history,
            {"history_of": name},
            f"Every move of the aliases of {name}: each version is one move, and the model that it put to use.",
        )
    except Exception:
        if not client.search_registered_models(f"name = '{history}'"):  # unless another process was faster
            raise


def as_table(moves: Sequence[tuple[Move, bool]]) -> str:
    """Return moves, each with whether it holds, as aligned lines for a terminal, the latest last."""
    if not moves:
        return "no version was ever put to use"
    headers = ("", "when (UTC)", "what", "champion", "who", "why")
    rows = [
        (
            str(move.number),
            move.when,
            move.kind if holds else f"{move.kind}, void: another came first",
            f"{move.before.champion or '-'} -> {move.after.champion or '-'}",
            move.who,
            move.why,
        )
        for move, holds in moves
    ]
    return text_table.aligned(rows, headers)


def as_json(moves: Sequence[tuple[Move, bool]]) -> str:
    """Return moves as JSON, one object a line."""
    return "\n".join(json.dumps({**dataclasses.asdict(move), "holds": holds}, sort_keys=True) for move, holds in moves)
