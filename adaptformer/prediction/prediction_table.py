"""Predictions as text: a table to read, CSV and JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TextIO

from adaptformer.base import csv_file, names
from adaptformer.prediction.predictor import NO_ANSWER, Prediction

UNSURE = "unsure"
"""The mark of an answer whose probability is too small."""


def write_table(out: TextIO, predictions: Iterable[Prediction], below: float = 0.0) -> None:
    """Write one line per image: path, then its classes with their probabilities in per cent.

    An answer whose probability is less than `below` is marked as unsure.
    """
    listed = list(predictions)
    paths = [names.shown(str(prediction.path)) for prediction in listed]
    width = max(map(len, paths), default=0)
    for path, prediction in zip(paths, listed, strict=True):
        pairs = zip(prediction.classes, prediction.probabilities, strict=True)
        best = "   ".join(f"{names.shown(name)} {100 * probability:.1f} %" for name, probability in pairs)
        mark = f"{UNSURE}   " if prediction.unsure(below) else ""
        out.write(f"{path:<{width}}   {mark}{best or _reason(prediction.fault)}\n")


def _reason(fault: str) -> str:
    return fault if fault == NO_ANSWER else f"not read: {names.shown(fault)}"


def write_csv(out: TextIO, predictions: Iterable[Prediction], top: int, below: float = 0.0) -> None:
    """Write CSV with the columns path, fault, then class and probability of each rank; each row is written at once.

    If `below` is above 0, the last column is `unsure`: 1 if the best probability is less than `below`, else 0.
    """
    writer = csv_file.Writer(out)
    ranks = range(1, top + 1)
    pairs = (f"{name}{rank}" for rank in ranks for name in ("class", "probability"))
    writer.row(["path", "fault", *pairs, *([UNSURE] if below else [])])
    for prediction in predictions:
        best = zip(prediction.classes, prediction.probabilities, strict=True)
        cells = [cell for name, probability in best for cell in (name, f"{probability:.6f}")]
        missing = [""] * (2 * top - len(cells))  # every row has as many cells as the first
        mark = [int(prediction.unsure(below))] if below else []
        writer.row([prediction.path, prediction.fault, *cells, *missing, *mark])


def write_json(out: TextIO, predictions: Iterable[Prediction], below: float = 0.0) -> None:
    """Write one JSON object per line: path, and either `classes` with their probabilities, best first, or `fault`.

    If `below` is above 0, an object with classes also has `unsure`.
    """
    for prediction in predictions:
        entry: dict[str, object] = {"path": str(prediction.path)}
        if prediction.fault:
            entry["fault"] = prediction.fault
        else:
            pairs = zip(prediction.classes, prediction.probabilities, strict=True)
            entry["classes"] = [{"class": name, "probability": round(value, 6)} for name, value in pairs]
            if below:
                entry[UNSURE] = prediction.unsure(below)
        line = json.dumps(entry, ensure_ascii=False)
        # Unprintable characters occur only in names; as JSON escapes, every reader restores them unchanged.
        out.write("".join(json.dumps(sign)[1:-1] if names.unseen(sign) else sign for sign in line) + "\n")
