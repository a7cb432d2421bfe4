"""All images of a data set, the likeliest wrong labels first, as a table that a person completes.

Shapes: N images, D width of the backbone.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from numpy.typing import NDArray

from adaptformer import csv_file, files
from adaptformer.data import groups
from adaptformer.errors import UserError
from adaptformer.labels import probe

COLUMNS = ("path", "label", "looks_like", "probability", "label_probability", "likely_wrong", "new_label")
"""`probability` is that of the class which an image looks like, `label_probability` that of its label."""


def rank(manifest: pd.DataFrame, features: NDArray[np.float32], group: str | None) -> pd.DataFrame:
    """Return a row for each image of a manifest [N rows] with these features [N, D], the likeliest wrong label first.

    An image is ranked by the probability of its label (cleanlab's self-confidence); which ones are likely wrong is
    confident learning's estimate (Northcutt et al. 2021). `new_label` is empty. Images of one group (the pattern
    `group`, data/groups.py) do not judge each other, nor do equal files.
    """
    classes, labels = np.unique(manifest["label"], return_inverse=True)
    probabilities = probe.out_of_fold(features, labels, _together(manifest, group))
    scores = get_label_quality_scores(labels, probabilities, method="self_confidence")
    wrong = find_label_issues(labels, probabilities, n_jobs=1)
    looks_like = probabilities.argmax(axis=1)
    table = pd.DataFrame(
        {
            "path": manifest["path"],
            "label": manifest["label"],
            "looks_like": classes[looks_like],
            "probability": probabilities.max(axis=1).round(4),
            "label_probability": scores.round(4),
            "likely_wrong": np.where(wrong, "yes", ""),
            "new_label": "",
        }
    )
    # Those that confident learning names come first, as the page shows them.
    order = np.lexsort((manifest["path"], scores, ~wrong))
    return table.iloc[order].reset_index(drop=True)


def _together(manifest: pd.DataFrame, group: str | None) -> list[str]:
    named = groups.of((path.partition("/")[2] for path in manifest["path"]), group)
    return [f"group {name}" if name else sha256 for name, sha256 in zip(named, manifest["sha256"], strict=True)]


def with_answers(ranking: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, int]:
    """Return a ranking with the new labels that a person wrote into the file `path` before, and how many there are.

    Those of images that have another label by now, or are gone, are left out: they have been used, or are of no use.
    Raises UserError for a file that cannot be read, which a person may have spent hours on.
    """
    if not path.is_file():
        return ranking, 0
    try:
        before = csv_file.read(path)
        written = zip(before["path"], before["label"], before["new_label"].str.strip(), strict=True)
        answers = {(image, label): new for image, label, new in written}
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} cannot be read: it may hold labels that you wrote", "move it elsewhere") from error
    news = [answers.get(key, "") for key in zip(ranking["path"], ranking["label"], strict=True)]
    return ranking.assign(new_label=news), sum(map(bool, news))


def write(path: Path, ranking: pd.DataFrame) -> None:
    """Write a ranking as CSV, whole or not at all."""
    files.write_text(path, csv_file.text(ranking, COLUMNS))
