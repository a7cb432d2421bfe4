"""Predictions as text: a table for people, CSV for programs."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from typing import TextIO

from adaptformer.export.predictor import Prediction


def write_table(out: TextIO, predictions: Iterable[Prediction]) -> int:
    """Write one line an image: path, then its classes with their probabilities in per cent. Return how many failed."""
    listed = list(predictions)
    width = max((len(str(prediction.path)) for prediction in listed), default=0)
    for prediction in listed:
        pairs = zip(prediction.classes, prediction.probabilities, strict=True)
        best = "   ".join(f"{name} {100 * probability:.1f} %" for name, probability in pairs)
        out.write(f"{prediction.path!s:<{width}}   {best or f'not read: {prediction.fault}'}\n")
    return sum(bool(prediction.fault) for prediction in listed)


def write_csv(out: TextIO, predictions: Iterable[Prediction], top: int) -> int:
    """Write the columns path, fault, then class and probability of each rank, row by row. Return how many failed."""
    writer = csv.writer(out, lineterminator="\n")
    ranks = range(1, top + 1)
    writer.writerow(["path", "fault", *(f"{name}{rank}" for rank in ranks for name in ("class", "probability"))])
    faults = 0
    for prediction in predictions:
        pairs = zip(prediction.classes, prediction.probabilities, strict=True)
        cells = [cell for name, probability in pairs for cell in (name, f"{probability:.6f}")]
        missing = [""] * (2 * top - len(cells))  # every row has as many cells as the first
        writer.writerow([prediction.path, prediction.fault, *cells, *missing])
        faults += bool(prediction.fault)
    return faults
