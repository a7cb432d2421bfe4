"""The table of predictions, one row for each test image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from adaptformer.data.labelled import LabelledImages
from adaptformer.evaluation.metrics import Evaluation


def table(images: LabelledImages, evaluation: Evaluation, classes: Sequence[str]) -> pd.DataFrame:
    """Return one row per image: path and sha256 of its file, true label, prediction, probabilities of both labels."""
    names = np.asarray(classes, dtype=object)
    return pd.DataFrame(
        {
            "path": images.paths,
            "sha256": images.sha256,
            "label": names[evaluation.labels],
            "predicted": names[evaluation.predicted],
            "confidence": evaluation.confidence.round(6),
            "probability_of_label": evaluation.probability_of_label.round(6),
        }
    )
