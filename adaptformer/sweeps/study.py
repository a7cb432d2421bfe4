"""The trials of a sweep, in a database beside its results: choice of the next trial, early stopping, results.

Each finished trial also has a record beside the database. Whenever the database is opened, it is compared with the
records.

Several processes may work on one sweep. A trial whose process was killed is started again with the same values, and its
training resumes. The sampler's seed depends on the number of earlier trials, so a process that is killed and started
again tries the same values as an uninterrupted one.
"""

from __future__ import annotations

import contextlib
import sqlite3
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from adaptformer.base import files
from adaptformer.base.errors import UserError
from adaptformer.base.names import shown
from adaptformer.base.randomness import generator
from adaptformer.sweeps import space, trial_records
from adaptformer.sweeps.space import Dimension
from adaptformer.training.history import EpochRow

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

STARTUP_TRIALS = 5
"""Number of trials that TPE draws at random before it learns, and that run in full before any trial is stopped."""
DATABASE, TABLE = "study.db", "sweep.csv"
_DRAWS = 50
"""Number of draws without new values after which the search space counts as exhausted."""


class Pruned(Exception):  # noqa: N818 - no error: the trial has ended
    """Raised to stop a trial early."""


@dataclass(frozen=True)
class Settings:
    """Settings for choosing and judging trials: section `sweep` of params.yaml, and training.selection_metric."""

    trials: int
    sampler: str
    pruner: str
    seed: int
    metric: str


@dataclass(frozen=True)
class Result:
    """The result of a trial. `number` counts from 1; `score` is that of its best epoch on the validation split."""

    number: int
    values: dict[str, Any]
    state: str
    score: float | None
    best_epoch: int | None
    epochs: int
    seconds: float
    folder: str
    reason: str


class Study:
    """The trials of a sweep, as seen by one of the processes that work on it."""

    def __init__(self, root: Path, storage: str | None, dimensions: Sequence[Dimension], settings: Settings) -> None:
        """Open the sweep in the folder `root`; `storage` is the URL of a database for several machines.

        Trials missing in the database are restored from their records. Raises UserError if the database is damaged, or
        if it is lost and there are no records.
        """
        import optuna

        with files.refusals(root):
            root.mkdir(parents=True, exist_ok=True)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._optuna = optuna
        self._root, self._dimensions, self._settings = root, list(dimensions), settings
        self._records = root / "trials"
        self._lock = FileLock(root / ".lock")
        self._worker = uuid.uuid4().hex
        with _opening(root, storage, self._records), self._alone():  # two processes that create it at once fail
            _require_sound(root / DATABASE)
            self._study = self._opened(storage)
            ended = [trial for trial in self._kept() if trial.state.is_finished()]
            trial_records.reconcile(self._records, self._study, ended, self._dimensions)
            self.results()
            if (root / TABLE).is_file() and not self._kept():
                raise UserError(
                    f"{root / TABLE} lists trials, but the database of the sweep has none",
                    "restore the database from a copy, or search with another sweep.seed",
                )

    def _opened(self, storage: str | None) -> optuna.Study:
        settings, pruners = self._settings, self._optuna.pruners
        study: optuna.Study = self._optuna.create_study(
            storage=storage or f"sqlite:///{self._root / DATABASE}",
            study_name=self._root.name,
            load_if_exists=True,
            direction="minimize" if settings.metric == "loss" else "maximize",
            # The first epochs say little about the final score.
            pruner=pruners.MedianPruner(STARTUP_TRIALS, n_warmup_steps=2)
            if settings.pruner == "median"
            else pruners.NopPruner(),
        )
        return study

    @property
    def trials(self) -> int:
        """The number of trials of the whole sweep; for a grid, the number of combinations."""
        if self._settings.sampler == "grid":
            return len(list(space.combinations(self._dimensions)))
        return self._settings.trials

    @contextmanager
    def working(self) -> Iterator[None]:
        """Mark this process as alive for other processes while the body runs."""
        with self._alive(self._worker):
            yield

    def next(self) -> Trial | None:
        """Return the next trial, or None if there is none left to start. Call this within `working`."""
        with self._alone():
            self._give_back_killed()
            kept = self._kept()
            for draw in range(_DRAWS):
                if len(kept) >= self.trials:
                    return None
                self._study.sampler = self._sampler(len(kept), draw)
                asked = self._asked(kept)
                suggestion = {dimension.key: dimension.suggest(asked) for dimension in self._dimensions}
                asked.set_user_attr("worker", self._worker)
                if suggestion not in [trial.params for trial in kept]:
                    return Trial(self, asked, len(kept) + 1, self._values(suggestion))
                self._drop(asked.number)
            return None

    @property
    def log_ranges(self) -> dict[str, bool]:
        """For each key that is searched in a range, whether on a log scale."""
        return {one.key: one.log for one in self._dimensions if isinstance(one, space.Range)}

    def results(self) -> list[Result]:
        """Return the results of all finished trials, in the order in which they started."""
        return [self._result(i, trial) for i, trial in enumerate(self._kept(), start=1) if trial.state.is_finished()]

    def _asked(self, kept: Sequence[FrozenTrial]) -> optuna.Trial:
        if self._settings.sampler == "grid":
            tried = [trial.params for trial in kept]
            waiting = self._study.get_trials(deepcopy=False, states=[self._optuna.trial.TrialState.WAITING])
            if not waiting:
                self._study.enqueue_trial(next(c for c in space.combinations(self._dimensions) if c not in tried))
        return self._study.ask()

    def _sampler(self, trials: int, draw: int) -> optuna.samplers.BaseSampler:
        seed = int(generator("sweep", self._settings.seed, trials, draw).integers(2**31))
        if self._settings.sampler == "tpe":
            return self._optuna.samplers.TPESampler(n_startup_trials=STARTUP_TRIALS, seed=seed)
        return self._optuna.samplers.RandomSampler(seed=seed)

    def _kept(self) -> list[FrozenTrial]:
        """Return the trials that count: running or finished, and not dropped as killed or repeated."""
        waiting = self._optuna.trial.TrialState.WAITING
        trials = self._study.get_trials(deepcopy=False)
        return [trial for trial in trials if trial.state != waiting and not trial.user_attrs.get("dropped")]

    def _drop(self, number: int) -> None:
        trial = next(one for one in self._study.get_trials(deepcopy=False) if one.number == number)
        self._study._storage.set_trial_user_attr(trial._trial_id, "dropped", True)
        self._study.tell(number, state=self._optuna.trial.TrialState.FAIL)

    def _give_back_killed(self) -> None:
        """Queue the trials of processes that died, so that they are started again."""
        for trial in self._study.get_trials(deepcopy=False, states=[self._optuna.trial.TrialState.RUNNING]):
            worker = trial.user_attrs.get("worker", "")
            if worker == self._worker:
                continue
            try:
                with self._alive(worker or "none"):  # the system releases the lock when its process ends
                    self._drop(trial.number)
                    if len(trial.params) == len(self._dimensions):
                        self._study.enqueue_trial(trial.params)
            except Timeout:
                pass

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock of the sweep; other processes wait. Raises UserError if its folder cannot be locked."""
        with files.refusals(self._root):
            held = self._lock.acquire()
        with held:
            yield

    @contextmanager
    def _alive(self, worker: str) -> Iterator[None]:
        lock = FileLock(self._root / f".worker-{worker}", timeout=0)
        with files.refusals(self._root):
            held = lock.acquire()
        with held:
            yield
        Path(lock.lock_file).unlink(missing_ok=True)

    def _values(self, suggestion: dict[str, Any]) -> dict[str, Any]:
        return {dimension.key: dimension.value(suggestion[dimension.key]) for dimension in self._dimensions}

    def _result(self, number: int, trial: FrozenTrial) -> Result:
        about = trial.user_attrs
        return Result(
            number=number,
            values=self._values(trial.params),
            state=about["state"],
            score=about.get("score"),
            best_epoch=about.get("best_epoch"),
            epochs=about.get("epochs", 0),
            seconds=about.get("seconds", 0.0),
            folder=about.get("folder", ""),
            reason=about.get("reason", ""),
        )


def _require_sound(database: Path) -> None:
    """Raise an SQLite error if the integrity check of the database file fails."""
    if database.is_file() and database.stat().st_size:
        with contextlib.closing(sqlite3.connect(database)) as connection:
            if connection.execute("pragma integrity_check").fetchone() != ("ok",):
                raise sqlite3.DatabaseError


@contextmanager
def _opening(root: Path, storage: str | None, records: Path) -> Iterator[None]:
    """Turn exceptions while a sweep's database is opened into a UserError; `records` is the folder of its records."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # SQLite's, SQLAlchemy's, a driver's and Optuna's own share no base class
        if refused := files.refusal(error, root):
            raise refused from error
        if storage is None:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:120]
            raise trial_records.damaged(records, shown(reason)) from error
        message = " ".join(str(error).split()).partition(" [SQL: ")[0] or type(error).__name__
        raise UserError(
            f"the sweep's database {storage} cannot be opened: {message}",
            "correct sweep.storage in params.yaml, or check that the database answers",
        ) from error


class Trial:
    """One trial that this process works on; `values` are the values that it tries, by dotted key."""

    def __init__(self, study: Study, asked: optuna.Trial, number: int, values: dict[str, Any]) -> None:
        self.number = number
        self.values = values
        self._study, self._asked = study, asked
        self._rows: list[EpochRow] = []

    def on_epoch(self, row: EpochRow) -> None:
        """Report an epoch. Raises Pruned if the trial is worse than the median of the others at that epoch."""
        self._rows.append(row)
        if row.rolled_back:
            return
        self._asked.report(self._score(row), step=len(self._rows))
        if self._asked.should_prune():
            raise Pruned

    def end(self, state: str, folder: Path, seconds: float, reason: str = "") -> None:
        """Record the end of the trial: "complete", "stopped early", or "failed" with a `reason`."""
        states = self._study._optuna.trial.TrialState
        kept = [row for row in self._rows if not row.rolled_back]
        about: dict[str, Any] = {
            "state": state, "folder": str(folder), "seconds": seconds, "epochs": len(self._rows), "reason": reason
        }  # fmt: skip
        if kept:
            sign = -1 if self._study._settings.metric == "loss" else 1
            best = max(kept, key=lambda row: (sign * self._score(row), -row.val_loss))
            about |= {"score": self._score(best), "best_epoch": self._rows.index(best) + 1}
        for name, value in about.items():
            self._asked.set_user_attr(name, value)
        if state == "failed" or not kept:
            self._study._study.tell(self._asked, state=states.FAIL)
        elif state == "stopped early":
            self._study._study.tell(self._asked, state=states.PRUNED)
        else:
            self._study._study.tell(self._asked, about["score"])
        ended = next(one for one in self._study._kept() if one.number == self._asked.number)
        trial_records.write(self._study._records, ended)

    def _score(self, row: EpochRow) -> float:
        return float(getattr(row, f"val_{self._study._settings.metric}"))
