"""The gate's information on a registered version: read from the registry, or measured here if not recorded."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from adaptformer.base import csv_file, files, integrity
from adaptformer.base.errors import UserError
from adaptformer.config import renamed
from adaptformer.config.params import GateParams
from adaptformer.curation.checks.thumbnails import thumbnail as thumbnail_of
from adaptformer.data import groups, image_facts
from adaptformer.data import manifest as manifests
from adaptformer.evaluation import data_profile
from adaptformer.gate import drift, rules
from adaptformer.gate.decision import Check
from adaptformer.gate.pairing import Side
from adaptformer.prediction import model_file
from adaptformer.prediction.latency import compared_ms
from adaptformer.prediction.predictor import NO_ANSWER, Predictor, answered
from adaptformer.registry import versions

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger("adaptformer")

COLUMNS = {"path", "sha256", "label", "predicted", "confidence", "probability_of_label"}
BATCH = 32
CHECKED_IMAGES = 32
SAME_CONFIDENCE = 0.01


@dataclass(frozen=True)
class Candidate:
    """A registered version with the files of the run that made it; a file that the run did not keep is None."""

    name: str
    version: str
    model: Path
    manifest: pd.DataFrame
    predictions: pd.DataFrame | None
    parity: float | None
    profile: Path | None
    alike: Mapping[str, frozenset[str]]
    """By the sha256 of an image, those of its near duplicates that `validate` found."""
    data: str
    """The data set as pages name it, "" if its run does not name it."""
    group: str | None = None
    """The pattern by which its data set's images are grouped (`data.group_pattern`)."""

    @property
    def test_digest(self) -> str:
        """Hash over the sorted (path, label, sha256) of the test images: equal means judged on the same images."""
        test = manifests.rows(self.manifest, "test")[["path", "label", "sha256"]]
        return files.sha256_text(files.canonical_json(sorted(test.to_numpy().tolist())))

    @property
    def seen(self) -> frozenset[str]:
        """The sha256 of every image that the version trained or validated on."""
        return frozenset(self.manifest.loc[self.manifest["split"] != "test", "sha256"])

    def saw(self, alike: Mapping[str, frozenset[str]]) -> frozenset[str]:
        """Return the images that the version has seen, and those of which it has seen a near duplicate."""
        return self.seen | {sha256 for sha256, others in alike.items() if others & self.seen}


def gather(client: MlflowClient, name: str, version: str, into: Path) -> Candidate:
    """Fetch the files and params of a version.

    Raises UserError if it cannot be judged: there is no manifest or no model file, or files are not the registered
    ones or do not belong together.
    """
    registered = client.get_model_version(name, version)
    files_of = {
        attribute: versions.evidence(client, registered, attribute, into)
        for attribute in ("manifest", "predictions", "findings", "parity", "profile")
    }
    if files_of["manifest"] is None:
        raise UserError(
            f"{name} version {version} has no manifest, so the images that it has seen are unknown",
            "it was not registered by this project: choose another version, or move the alias in MLflow by hand",
        )
    table = manifests.read_stored(files_of["manifest"], manifests.REGISTER)
    model = versions.fetch_model(client, name, version, into)
    logged = client.get_run(registered.run_id).data.params if registered.run_id else {}
    values = {renamed.present_name(key): value for key, value in logged.items()}
    return Candidate(
        name=name,
        version=version,
        model=model,
        manifest=table,
        predictions=None if files_of["predictions"] is None else read_predictions(files_of["predictions"]),
        parity=None if files_of["parity"] is None else _parity(files_of["parity"], model, f"{name} version {version}"),
        profile=files_of["profile"],
        alike={} if files_of["findings"] is None else _alike(files_of["findings"], table),
        data=_data(values),
        group=None if values.get("data.group_pattern", "None") == "None" else values["data.group_pattern"],
    )


def _parity(path: Path, model: Path, named: str) -> float:
    """Return the recorded difference. Raises UserError if it belongs to another model, or cannot be read."""
    remedy = "export and register the model again (`make run`), or choose another version"
    try:
        content = json.loads(path.read_bytes())
        if integrity.KEY in content:  # records of earlier versions have no checksum and do not name the model
            content = integrity.read_record(path, remedy)
            if dict(content["about"])["model"] != model_file.sha256(model):
                raise UserError(f"{path.name} of {named} is about another ONNX file than its own", remedy)
        return float(content["relative"])
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path.name} of {named} cannot be read", remedy) from error


def _data(values: Mapping[str, str]) -> str:
    name, date = values.get("data.name", ""), values.get("data.date", "None")
    return name if date == "None" else f"{name} of {date}"


def _alike(findings: Path, manifest: pd.DataFrame) -> dict[str, frozenset[str]]:
    """Return the near duplicates of each image that has some; runs of earlier releases kept no such file."""
    table = _recorded(findings, {"path", "other"})
    hashes = dict(zip(manifest["path"], manifest["sha256"], strict=True))
    duplicates_of: dict[str, set[str]] = {}
    for one, other in zip(table["path"], table["other"], strict=True):
        if one in hashes and other in hashes:
            duplicates_of.setdefault(hashes[one], set()).add(hashes[other])
            duplicates_of.setdefault(hashes[other], set()).add(hashes[one])
    return {sha256: frozenset(others) for sha256, others in duplicates_of.items()}


def read_predictions(path: Path) -> pd.DataFrame | None:
    """Return recorded predictions, or None if columns that the gate compares are missing."""
    table = _recorded(path)
    if not set(table.columns) >= COLUMNS:
        return None
    try:
        return table.astype({"confidence": "float64", "probability_of_label": "float64"})
    except ValueError as error:
        raise _damaged(path, error) from error


def _recorded(path: Path, columns: Collection[str] = ()) -> pd.DataFrame:
    try:
        table = csv_file.read(path)
        return table[list(columns)] if columns else table
    except (OSError, ValueError, KeyError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(
        f"the registered {path.name} cannot be read: {' '.join(str(error).split())}",
        "restore it in MLflow's store, or register the model once more (`make run`)",
    )


def judged(
    challenger: Candidate, champion: Candidate | None, data: Path, bounds: GateParams
) -> tuple[Side, Side | None]:
    """Return both sides of the comparison, on the challenger's test images.

    Recorded predictions count if both were judged on the same images; else both models run on the files in `data`.
    The latency of both is measured here, and once more if it would refuse the challenger by `bounds`. Raises UserError
    if `data` is needed, but does not hold the images that the challenger was tested on.
    """
    sides = [challenger] if champion is None else [challenger, champion]
    recorded = all(side.predictions is not None and side.test_digest == challenger.test_digest for side in sides)
    if not recorded:
        log.info("both models are evaluated again: their recorded test images differ")
    # One thread for each model: idle threads of one model keep spinning for a while and would slow down the other one.
    predictors = [Predictor(side.model, device="cpu", threads=1) for side in sides]
    slower = partial(rules.too_slow, bounds=bounds)
    speeds = (math.nan,) if champion is None else compared_ms(predictors[0], predictors[1], slower)
    rows = manifests.rows(challenger.manifest, "test")
    classes = [predictors[0].classes, *(_renamed(predictor.classes, bounds) for predictor in predictors[1:])]
    answers = [
        _recorded_answers(side.predictions, predictor.classes, names)
        if recorded and side.predictions is not None
        else predict(predictor, rows, data, names)
        for side, predictor, names in zip(sides, predictors, classes, strict=True)
    ]
    if "group" not in answers[0]:
        within = answers[0]["path"].str.partition("/")[2]
        answers[0] = answers[0].assign(group=groups.of(within, challenger.group))
    first, *others = [
        Side(
            side.version, names, answer, seen=side.saw(challenger.alike),
            megabytes=model_file.size(side.model) / 1e6, latency_ms=speed, parity=side.parity, data=side.data,
        )
        for side, names, answer, speed in zip(sides, classes, answers, speeds, strict=True)
    ]  # fmt: skip
    return first, others[0] if others else None


def _renamed(classes: tuple[str, ...], bounds: GateParams) -> tuple[str, ...]:
    """Return the champion's classes by their present names. Raises UserError if two would have the same name."""
    present = dict(bounds.renamed_classes)
    names = tuple(present.get(name, name) for name in classes)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(
            f"gate.renamed_classes gives two classes of the champion the name {twice[0]}",
            "correct gate.renamed_classes in params.yaml: classes cannot be merged",
        )
    return names


def _recorded_answers(predictions: pd.DataFrame, classes: Sequence[str], names: Sequence[str]) -> pd.DataFrame:
    """Return recorded predictions in which the model's `classes` have other `names`."""
    called = dict(zip(classes, names, strict=True))
    return predictions.assign(predicted=[called.get(label, label) for label in predictions["predicted"]])


def predict(
    predictor: Predictor, rows: pd.DataFrame, data: Path, classes: tuple[str, ...] | None = None
) -> pd.DataFrame:
    """Run a model on the image files of manifest rows and return predictions as `evaluate` records them.

    `classes` are other names of the model's classes, None for its own. An image for which the model gives no finite
    numbers has NO_ANSWER in place of a class: it counts as wrong. Raises UserError if a file is not that of its row.
    """
    contents = (_content(data / path, sha256) for path, sha256 in zip(rows["path"], rows["sha256"], strict=True))
    probabilities = np.concatenate(list(predictor.probabilities(contents, BATCH)))
    sound = answered(probabilities)
    if not sound.all():
        log.warning("a model has no answer to %d of %d images: they count as wrong", (~sound).sum(), len(sound))
    probabilities[~sound] = 0.0
    names = predictor.classes if classes is None else classes
    columns = pd.Index(names).get_indexer(pd.Index(rows["label"]))  # -1: a class that the model does not know
    of_label = np.where(columns >= 0, probabilities[np.arange(len(rows)), columns], 0.0)
    return rows[["path", "sha256", "label"]].assign(
        predicted=np.where(sound, np.array(names)[probabilities.argmax(axis=1)], NO_ANSWER),
        confidence=probabilities.max(axis=1),
        probability_of_label=of_label,
    )


def _content(path: Path, sha256: str) -> bytes:
    content = image_facts.content(path, sha256)
    if content is None:
        raise UserError(
            f"{path} is not the test image that the challenger was judged on",
            "bring the challenger's data back (`dvc checkout`, `dvc pull`), or train a challenger on the present data",
        )
    return content


def drifts(challenger: Candidate, champion: Candidate | None, bound: float) -> list[Check]:
    """Return the checks of the drift between both versions' data; none if one of them has no profile."""
    if champion is None or challenger.profile is None or champion.profile is None:
        return []
    try:
        return drift.compare(data_profile.read(challenger.profile), data_profile.read(champion.profile), bound)
    except UserError as error:  # drift only warns, so a failure to measure it only makes a note
        return [Check("drift", "info", "not measured", f"at most {bound:g}", f"Not compared: {error.cause}.")]


def thumbnails(candidate: Candidate, data: Path) -> Callable[[str], bytes | None]:
    """Return a function from an image's path to its PNG, None if the file is no longer the one of the manifest."""
    expected = dict(zip(candidate.manifest["path"], candidate.manifest["sha256"], strict=True))

    def thumbnail(path: str) -> bytes | None:
        there = image_facts.content(data / path, expected.get(path, "")) is not None
        return (there and thumbnail_of(data / path)) or None

    return thumbnail


def require_running(candidate: Candidate, data: Path) -> int:
    """Run a version that is about to be put to use, and return how many images it answered as recorded.

    It runs on random pixels, and on those of its recorded test images whose files are in `data`. Raises UserError if
    the model does not open, gives no finite numbers, or answers differently from when it was judged.
    """
    predictor = Predictor(candidate.model, device="cpu")
    size = predictor.contract.size
    noise = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), dtype=np.uint8)
    logits = predictor.logits(noise)
    sound = logits.shape == (3, len(predictor.classes)) and bool(np.isfinite(logits).all())
    there = _there(candidate, data)
    if sound and len(there):
        answers = predict(predictor, there, data)
        # `~within` instead of `>`, because NaN compares false with everything.
        within = (answers["confidence"] - there["confidence"]).abs() <= SAME_CONFIDENCE
        differs = (answers["predicted"] != there["predicted"]) & ~within
        sound = not bool((differs | (answers["predicted"] == NO_ANSWER)).any())
    if not sound:
        raise UserError(
            f"{candidate.name} version {candidate.version} no longer gives the answers that it was judged by",
            "nothing was moved; choose another version with --to",
        )
    return len(there)


def _there(candidate: Candidate, data: Path) -> pd.DataFrame:
    """Return recorded predictions of some test images, spread over all, whose files are unchanged in `data`."""
    recorded = candidate.predictions
    if recorded is None:
        return pd.DataFrame()
    sample = recorded.iloc[:: max(1, len(recorded) // CHECKED_IMAGES)]
    present = [
        image_facts.content(data / path, sha256) is not None
        for path, sha256 in zip(sample["path"], sample["sha256"], strict=True)
    ]
    return sample[present].reset_index(drop=True)
