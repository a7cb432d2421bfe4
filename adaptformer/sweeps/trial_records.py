"""Records of finished trials beside the database, to detect and repair a damaged or lost database.

The name of a record is the hash of the trial's values, which no two trials of a sweep share.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptformer.base import files, integrity
from adaptformer.base.errors import UserError

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from adaptformer.sweeps.space import Dimension

log = logging.getLogger("adaptformer")


def write(folder: Path, trial: FrozenTrial) -> None:
    """Write the record of a finished trial."""
    integrity.write_record(_path(folder, trial.params), _content(trial))


def reconcile(folder: Path, study: optuna.Study, ended: Sequence[FrozenTrial], dimensions: Sequence[Dimension]) -> None:
    """Make records and database agree; `ended` are the finished trials in the database that count.

    A trial without a record gets one: its process was killed before writing it, or the sweep is older than records. A
    trial that has only a record is restored. Raises UserError if a trial differs from its record.
    """
    recorded: dict[Path, dict[str, Any] | None] = {path: _read(path) for path in sorted(folder.glob("*.json"))}
    unknown = []
    for trial in ended:
        record = recorded.pop(path := _path(folder, trial.params), None)
        if record is None:
            unknown.append((path, trial))
        elif files.canonical_json(record) != files.canonical_json(_content(trial)):
            raise damaged(folder)
    lost = [content for content in recorded.values() if content is not None]
    # A database that lacks recorded trials and has unrecorded ones was changed.
    if len(lost) < len(recorded) or (lost and unknown):
        raise damaged(folder)
    for path, trial in unknown:
        if path.is_file():
            log.warning("%s was damaged: it is written again from the database", path)
        write(folder, trial)
    for content in sorted(lost, key=lambda one: one["number"]):
        study.add_trial(_restored(content, dimensions))
        write(folder, study.get_trials(deepcopy=False)[-1])  # with the number that it has now
    if lost:
        log.warning("%d trials that the database had lost are restored from %s/", len(lost), folder)


def damaged(folder: Path, reason: str = "it contradicts the records of its trials") -> UserError:
    """Return the error for a database that contradicts the records, or cannot be used for another `reason`."""
    return UserError(
        f"the database of the sweep in {folder.parent}/ is damaged or cannot be used: {reason}",
        "move study.db away, or check that the database of sweep.storage answers, or name an empty one: "
        f"the trials are restored from {folder}/",
    )


def _path(folder: Path, params: dict[str, Any]) -> Path:
    return folder / f"{files.sha256_text(files.canonical_json(params))[:16]}.json"


def _read(path: Path) -> dict[str, Any] | None:
    """Return a record, or None if it is damaged."""
    try:
        return integrity.read_record(path, "")
    except UserError:
        return None


def _content(trial: FrozenTrial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "params": trial.params,
        "state": trial.state.name,
        "value": trial.value,
        "scores": {str(step): score for step, score in trial.intermediate_values.items()},
        "about": trial.user_attrs,
    }


def _restored(content: dict[str, Any], dimensions: Sequence[Dimension]) -> FrozenTrial:
    import optuna

    fixed: Any = optuna.trial.FixedTrial(content["params"])
    for dimension in dimensions:
        dimension.suggest(fixed)
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState[content["state"]],
        value=content["value"],
        params=content["params"],
        distributions=fixed.distributions,
        user_attrs=content["about"],
        intermediate_values={int(step): score for step, score in content["scores"].items()},
    )
