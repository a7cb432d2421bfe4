"""A ranking of all images of a data set, the most likely wrong labels first, as a table for a person to complete.

Shapes: N images, D width of the backbone.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from adaptformer.base import csv_file, files
from adaptformer.base.errors import UserError
from adaptformer.curation.labels import probe
from adaptformer.data import groups

COLUMNS = ("path", "label", "looks_like", "probability", "label_probability", "likely_wrong", "new_label")
"""`probability` is that of the class in `looks_like`, `label_probability` that of the label."""


def rank(
    manifest: pd.DataFrame,
    features: NDArray[np.float32],
    group: str | None,
    duplicates: Sequence[tuple[str, str]] = (),
) -> pd.DataFrame:
    """Return a row for each image of a manifest [N rows] with features [N, D], the most likely wrong label first.

    Images are ranked by the probability of their labels (cleanlab's self-confidence); `likely_wrong` is the estimate of
    confident learning (Northcutt et al. 2021). `new_label` is empty. Images of one group (the pattern `group`,
    data/groups.py) are not used to judge each other; nor are equal files and `duplicates`, pairs of paths that show the
    same photo. Images that cannot be judged, such as a class whose images are all of one group, come last, with an
    empty `looks_like`.
    """
    classes, labels = np.unique(manifest["label"], return_inverse=True)
    probabilities = probe.out_of_fold(features, labels, together(manifest, group, duplicates))
    is_scored = np.isfinite(probabilities).all(axis=1)
    scores, wrong = np.full(len(labels), np.nan), np.zeros(len(labels), bool)
    scores[is_scored] = get_label_quality_scores(labels[is_scored], probabilities[is_scored], method="self_confidence")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "May not flag all label issues")  # for a class that cannot be judged
        wrong[is_scored] = find_label_issues(labels[is_scored], probabilities[is_scored], n_jobs=1)
    looks_like = np.where(is_scored, probabilities.argmax(axis=1), 0)
    table = pd.DataFrame(
        {
            "path": manifest["path"],
            "label": manifest["label"],
            "looks_like": np.where(is_scored, classes[looks_like], ""),
            "probability": probabilities.max(axis=1).round(4),
            "label_probability": scores.round(4),
            "likely_wrong": np.where(wrong, "yes", ""),
            "new_label": "",
        }
    )
    # Labels that confident learning finds wrong come first, as on the page; NaN sorts last.
    order = np.lexsort((manifest["path"], scores, ~wrong))
    return table.iloc[order].reset_index(drop=True)


def not_judged(ranking: pd.DataFrame) -> dict[str, int]:
    """Return the number of images that could not be judged, by class, in alphabetical order."""
    labels = ranking.loc[ranking["looks_like"] == "", "label"]
    return {str(label): int(count) for label, count in labels.value_counts().sort_index().items()}


def together(manifest: pd.DataFrame, group: str | None, duplicates: Sequence[tuple[str, str]]) -> list[str]:
    """Return a name [N] for each image, shared by all images that would reveal its label.

    Those are the images of its group, equal files, and `duplicates`, which are pairs of paths; also indirectly, through
    other images.
    """
    named = groups.of((path.partition("/")[2] for path in manifest["path"]), group)
    names = [f"group {name}" if name else sha256 for name, sha256 in zip(named, manifest["sha256"], strict=True)]
    count, rows = len(manifest), {path: row for row, path in enumerate(manifest["path"])}
    pairs = [(rows[one], rows[other]) for one, other in duplicates if one in rows and other in rows]
    # A graph of images, names and contents: images that are connected belong together.
    to_names, to_contents = (pd.factorize(np.array(keys, object))[0] for keys in (names, manifest["sha256"]))
    edges = [
        *zip(range(count), to_names + count, strict=True),
        *zip(range(count), to_contents + 2 * count, strict=True),
    ]
    ones, others = np.array([*edges, *pairs]).T
    graph = coo_array((np.ones(len(ones), np.int8), (ones, others)), shape=(3 * count, 3 * count))
    connected = pd.Series(connected_components(graph, directed=False)[1][:count])
    return list(pd.Series(names).groupby(connected).transform("min"))


def with_answers(ranking: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, int]:
    """Return a ranking with the new labels that a person has written into the file `path`, and their number.

    New labels of images that were relabelled or removed since then are left out: they have been used, or are of no use.
    Raises UserError for a file that cannot be read, because a person may have spent hours on it.
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
