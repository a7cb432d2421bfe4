"""Two models' answers to the same test images, without the images that either of them has seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adaptformer.evaluation import slices

_IMAGE = ["sha256", "label", "copy"]
_LEAST = 5e-7
"""A probability that is recorded as 0, with six digits, may have been as large as this."""


@dataclass(frozen=True)
class Side:
    """One model of a comparison.

    `predictions` has one row per test image: path, sha256, label, predicted, confidence, probability_of_label, and for
    the challenger the known ones of slices.COLUMNS. `seen` holds the sha256 of the images that the model trained or
    validated on. `megabytes` and `latency_ms` (per image) are the ONNX file's; `parity` is the largest relative
    difference of its logits from the trained model's, None if unknown. `data` is the data set that the model was
    trained on, as pages name it, "" if unknown.
    """

    version: str
    classes: tuple[str, ...]
    predictions: pd.DataFrame
    seen: frozenset[str]
    megabytes: float
    latency_ms: float
    parity: float | None
    data: str = ""


@dataclass(frozen=True)
class LeftOut:
    """Numbers of excluded test images: those that each model or either has seen, and unseen ones of other classes."""

    seen_by_challenger: int
    seen_by_champion: int
    seen: int
    other_classes: int


@dataclass(frozen=True)
class Pairs:
    """The compared images, one row each, sorted by path.

    `rows` has the columns path, label, the recorded ones of slices.COLUMNS, and for each side, with the prefix
    challenger_ or champion_, predicted, confidence and probability_of_label. `apart` holds the unseen images whose
    class at least one model does not know.
    """

    rows: pd.DataFrame
    apart: pd.DataFrame
    left_out: LeftOut
    shared: tuple[str, ...]
    new: tuple[str, ...]
    dropped: tuple[str, ...]

    @property
    def labels(self) -> NDArray[np.int64]:
        """Index of each image's class among the shared ones [N]."""
        return _codes(self.rows["label"], self.shared)

    def predicted(self, side: str) -> NDArray[np.int64]:
        """Return the index of a side's answers among the shared classes [N]; all other answers get one more index."""
        return _codes(self.rows[f"{side}_predicted"], self.shared)

    def right(self, side: str) -> NDArray[np.bool_]:
        """Return whether each answer of a side, "challenger" or "champion", is right [N]."""
        return np.equal(self.predicted(side), self.labels)

    @property
    def groups(self) -> NDArray[np.int64] | None:
        """Each image's group [N], None if no two images share one (slices.groups)."""
        return self.groups_of(self.rows)

    def groups_of(self, rows: pd.DataFrame) -> NDArray[np.int64] | None:
        """Return the groups of other rows, such as those of `apart`."""
        return slices.groups(rows)

    def loss(self, side: str) -> NDArray[np.float64]:
        """Return the log loss of a side's probabilities [N]: −log of the true class's probability."""
        probabilities = self.rows[f"{side}_probability_of_label"].to_numpy(np.float64)
        losses: NDArray[np.float64] = -np.log(np.maximum(probabilities, _LEAST))
        return losses

    def confidence(self, side: str) -> NDArray[np.float64]:
        """Return the probability that a side gave its answers [N]."""
        return self.rows[f"{side}_confidence"].to_numpy(np.float64)


def pair(challenger: Side, champion: Side) -> Pairs:
    """Return both models' answers to the images that neither has seen and whose class both know.

    Images are matched by sha256 and label. Raises ValueError if the models predicted different images.
    """
    ours, theirs = _answers(challenger, "challenger"), _answers(champion, "champion")
    both = ours.merge(theirs.drop(columns="path"), on=_IMAGE, validate="one_to_one")
    if not len(both) == len(ours) == len(theirs):
        raise ValueError(f"versions {challenger.version} and {champion.version} have predicted different test images")
    ours_known, theirs_known = set(challenger.classes), set(champion.classes)
    shared = tuple(sorted(ours_known & theirs_known))
    new, dropped = tuple(sorted(ours_known - theirs_known)), tuple(sorted(theirs_known - ours_known))
    return _unseen(both, [challenger, champion], shared, new, dropped)


def alone(challenger: Side) -> Pairs:
    """Return a single model's answers to the images that it has not seen."""
    return _unseen(_answers(challenger, "challenger"), [challenger], tuple(sorted(challenger.classes)))


def _unseen(
    rows: pd.DataFrame,
    models: Sequence[Side],
    shared: tuple[str, ...],
    new: tuple[str, ...] = (),
    dropped: tuple[str, ...] = (),
) -> Pairs:
    """Return the rows that no model has seen, split into those of the shared classes and the others."""
    seen = [rows["sha256"].isin(model.seen).to_numpy() for model in models]
    unseen, known = ~np.any(seen, axis=0), rows["label"].isin(shared).to_numpy()
    by_challenger, *by_champion = (int(mask.sum()) for mask in seen)
    left_out = LeftOut(by_challenger, sum(by_champion), int((~unseen).sum()), int((unseen & ~known).sum()))
    return Pairs(rows[unseen & known], rows[unseen & ~known], left_out, shared, new, dropped)


def _answers(model: Side, side: str) -> pd.DataFrame:
    table = model.predictions.sort_values(["path", "sha256", "label"], ignore_index=True)
    # A file that occurs twice counts as two images, as in every other figure.
    table["copy"] = table.groupby(["sha256", "label"]).cumcount()
    renamed = {name: f"{side}_{name}" for name in ("predicted", "confidence", "probability_of_label")}
    # The other columns describe the image itself, so they are the same on both sides.
    known = [column for column in slices.COLUMNS if side == "challenger" and column in table]
    return table[["path", *_IMAGE, *renamed, *known]].rename(columns=renamed)


def _codes(names: pd.Series[str], classes: Sequence[str]) -> NDArray[np.int64]:
    positions = pd.Index(list(classes)).get_indexer(pd.Index(names)).astype(np.int64)
    return np.where(positions < 0, len(classes), positions)
