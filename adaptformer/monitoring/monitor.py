"""The command `adaptformer monitor`: a model's answers on a folder of new, unlabelled images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adaptformer.base import progress
from adaptformer.base.errors import UserError
from adaptformer.data import image_facts, image_scan
from adaptformer.data import manifest as manifests
from adaptformer.data.image_facts import ImageFacts
from adaptformer.evaluation.intervals import Interval
from adaptformer.gate.decision import Check
from adaptformer.monitoring import data_likeness, expected_accuracy, label_next
from adaptformer.monitoring.data_likeness import Likeness
from adaptformer.monitoring.new_images import Features, FeatureStorage, NewImages
from adaptformer.prediction.predictor import NO_ANSWER, Predictor, answered, images_below


@dataclass(frozen=True)
class MonitoredModel:
    """A model to monitor: its files, the manifest and profile of its data, and its backbone."""

    name: str
    model: Path
    manifest: pd.DataFrame
    profile: Path | None
    backbone: Path


@dataclass(frozen=True)
class Findings:
    """The findings on N new images.

    `table` has one row per image: path, predicted, confidence, margin, `unlike` ("yes" for an image that is far from
    all of the model's data, else ""), and label_next, its rank in the order of labelling (0: not chosen). `accuracy` is
    the expected accuracy on the `judged` images, None if the new images differ too much for an estimate. `validation`
    is the accuracy on the `validation_images`. If the new images differ, `compared` of them were compared one by one
    with the model's data. `known` images are part of the model's data; `unreadable` has reasons by path.
    """

    name: str
    table: pd.DataFrame
    accuracy: Interval | None
    judged: int
    compared: int
    validation: float
    validation_images: int
    drift: tuple[Check, ...]
    known: int
    unreadable: dict[str, str]

    def drifted(self) -> list[Check]:
        """Return the checks that found a difference between the new images and the model's data."""
        return [check for check in self.drift if check.verdict == "warn"]

    @property
    def unlike(self) -> int:
        """The number of images that are far from all of the model's data."""
        return int((self.table["unlike"] == "yes").sum())

    def lines(self) -> list[str]:
        """Return the findings as lines of text, the most important first."""
        lines = [f"{self.name} on {len(self.table):,} new images: {self.headline}"]
        for check in self.drift:
            what = check.name.removeprefix("drift of ")
            verdict = {"warn": "unlike what it learned from", "pass": "like what it learned from"}
            lines.append(f"{what}: {verdict.get(check.verdict, check.reason)} ({check.value}, {check.bound})")
        if self.known:
            lines.append(f"{self.known:,} of the images are in the model's own data")
        if self.unreadable:
            lines.append(f"left out {len(self.unreadable):,} files that are no images or have no answer")
        return lines

    @property
    def headline(self) -> str:
        """The expected accuracy, or the reason why there is no estimate."""
        on_validation = f"{self.validation:.1%} on its {self.validation_images:,} validation images"
        figure = ""
        if self.accuracy is not None:
            figure = (
                f"expected accuracy {self.accuracy.value:.1%} ({self.accuracy.low:.1%} to {self.accuracy.high:.1%})"
            )
        if not self.drifted():
            return f"{figure}; {on_validation}"
        names = " and ".join(check.name.removeprefix("drift of ") for check in self.drifted())
        apart = f", {self.unlike:,} of {self.compared:,} unlike all of it" if self.compared else ""
        if self.accuracy is None:
            return f"they differ from what it learned from in {names}{apart}; no accuracy can be promised: label some"
        part = f"of the {self.judged:,} like it, {figure}"
        return f"they differ from what it learned from in {names}{apart}; {part}; {on_validation}"


def monitor_images(model: MonitoredModel, folder: Path, data: Path, to_label: int, storage: FeatureStorage) -> Findings:
    """Run a model on all images below `folder`, and return the findings that need no labels.

    At most `to_label` images are chosen for labelling. The model's validation images are read from `data`. Raises
    UserError if the folder holds no image, or if the validation images are not in `data`.
    """
    table, unreadable = _listed(folder)
    predictor = Predictor(model.model, device="cpu")
    validation = _validated(model, predictor, data)
    new = _answered(model, predictor, folder, table, unreadable)
    features = Features(model.backbone, predictor, storage)
    likeness = data_likeness.compare(model.profile, new, features)
    confidence = new.confidence[likeness.judged]
    return Findings(
        name=model.name,
        table=_table(predictor, new, likeness, _label_ranks(new, to_label, features, likeness)),
        accuracy=expected_accuracy.estimate(validation.confidence, validation.right, confidence)
        if len(confidence)
        else None,
        judged=len(confidence),
        compared=likeness.compared,
        validation=float(validation.right.mean()),
        validation_images=len(validation.right),
        drift=likeness.checks,
        known=int(new.table["sha256"].isin(model.manifest["sha256"]).sum()),
        unreadable=new.unreadable,
    )


@dataclass(frozen=True)
class _Validation:
    """The confidence of a model's answers on its validation images [V], and whether each is right [V]."""

    confidence: NDArray[np.float64]
    right: NDArray[np.bool_]


def _validated(model: MonitoredModel, predictor: Predictor, data: Path) -> _Validation:
    """Return the model's answers on its validation images. Raises UserError unless it has an answer to each."""
    rows = manifests.rows(model.manifest, "validation")
    probabilities = _probabilities(predictor, _validation_contents(rows, data), len(rows), "validation")
    if unanswered := int((~answered(probabilities)).sum()):
        raise UserError(
            f"{model.name} has no answer to {unanswered} of its {len(rows)} validation images",
            "choose another version: `adaptformer rollback` returns to the previous one",
        )
    predicted = np.array(predictor.classes)[probabilities.argmax(axis=1)]
    return _Validation(probabilities.max(axis=1), predicted == rows["label"].to_numpy())


def _answered(
    model: MonitoredModel, predictor: Predictor, folder: Path, table: pd.DataFrame, unreadable: dict[str, str]
) -> NewImages:
    """Return the images of a table with the model's answers, without those that have none.

    Raises UserError if none is left.
    """
    probabilities = _probabilities(predictor, _contents(table, folder), len(table), "classifying")
    sound = answered(probabilities)
    if not sound.any():
        raise UserError(f"{model.name} has no answer to any image in {folder}", "choose another version")
    left_out = unreadable | dict.fromkeys(table["path"][~sound], NO_ANSWER)
    return NewImages(folder, table[sound].reset_index(drop=True), probabilities[sound], left_out)


def _label_ranks(new: NewImages, to_label: int, features: Features, likeness: Likeness) -> NDArray[np.int64]:
    """Return the rank of each image [N] in the order of labelling, from 1; 0 if it is not chosen."""
    first = label_next.choose(
        new.margins, to_label, lambda rows: features.of(new.table.iloc[rows], new.folder), likeness.unlike
    )
    ranks = np.zeros(len(new.table), np.int64)
    ranks[first] = np.arange(1, len(first) + 1)
    return ranks


def _table(predictor: Predictor, new: NewImages, likeness: Likeness, ranks: NDArray[np.int64]) -> pd.DataFrame:
    """Return the table of Findings, least sure images first."""
    table = pd.DataFrame(
        {
            "path": new.table["path"],
            "predicted": np.array(predictor.classes)[new.probabilities.argmax(axis=1)],
            "confidence": new.confidence.round(6),
            "margin": new.margins.round(6),
            "unlike": np.where(likeness.unlike, "yes", ""),
            "label_next": ranks,
        }
    )
    return table.sort_values(["margin", "path"], kind="stable").reset_index(drop=True)


def _listed(folder: Path) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return a table like a manifest of the images below a folder, and the reason for each unreadable file."""
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder", "give a folder of new images")
    paths = images_below([folder])
    records, unreadable = [], {}
    scanned = progress.steps(image_scan.read_all(paths), "reading", len(paths), "files")
    for path, facts in zip(paths, scanned, strict=True):
        name = path.relative_to(folder).as_posix()
        if isinstance(facts, ImageFacts):
            records.append({"path": name, "label": "", "split": "new", **facts._asdict()})
        else:
            unreadable[name] = facts
    if not records:
        raise UserError(f"{folder} holds no image", "give a folder of new images")
    return pd.DataFrame.from_records(records), unreadable


def _validation_contents(rows: pd.DataFrame, data: Path) -> Iterator[bytes]:
    if rows.empty:
        raise UserError("the model has no validation images, by which its confidence is judged", "train it again")
    for path, sha256 in zip(rows["path"], rows["sha256"], strict=True):
        content = image_facts.content(data / path, sha256)
        if content is None:
            raise UserError(
                f"{data / path} is not the validation image that was used to choose the model",
                "restore its data (`dvc checkout`), or choose a model of the present data (--model)",
            )
        yield content


def _contents(table: pd.DataFrame, folder: Path) -> Iterator[bytes]:
    for path, sha256 in zip(table["path"], table["sha256"], strict=True):
        content = image_facts.content(folder / path, sha256)
        if content is None:
            raise UserError(f"{folder / path} changed while it was read", "run the same command again")
        yield content


def _probabilities(predictor: Predictor, contents: Iterator[bytes], total: int, label: str) -> NDArray[np.float64]:
    batches: Sequence[NDArray[np.float64]] = list(
        progress.steps(predictor.probabilities(contents), label, total, "images", len)
    )
    return np.concatenate(batches)
