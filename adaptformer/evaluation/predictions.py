"""The table of predictions, one row per test image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from adaptformer.data import groups
from adaptformer.data.labelled import LabelledImages
from adaptformer.evaluation import slices
from adaptformer.evaluation.metrics import Evaluation


def table(
    images: LabelledImages, evaluation: Evaluation, classes: Sequence[str], rows: pd.DataFrame, group: str | None
) -> pd.DataFrame:
    """Return one row per image: path and sha256 of its file, true label, prediction, probabilities of both labels.

    The next columns are for slices: width and height in pixels, mean brightness, and the group by the pattern `group`
    (data/groups.py). `rows` are the images' rows of the manifest.
    """
    names = np.asarray(classes, dtype=object)
    return pd.DataFrame(
        {
            "path": images.paths,
            "sha256": images.sha256,
            "label": names[evaluation.labels],
            "predicted": names[evaluation.predicted],
            "confidence": evaluation.confidence.round(6),
            "probability_of_label": evaluation.probability_of_label.round(6),
            "width": rows["width"].to_numpy(),
            "height": rows["height"].to_numpy(),
            "brightness": slices.brightness(images.images).round(2),
            "group": groups.of((path.partition("/")[2] for path in images.paths), group),
        }
    )
