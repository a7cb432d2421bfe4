"""The page about labels: images whose labels are likely wrong, large enough to judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from adaptformer import pages
from adaptformer.curation.checks.thumbnails import thumbnail

SHOWN, _PAIRS = 100, 20
_SIDE = 160
"""Pixels of a picture on the page."""


def html(
    ranking: pd.DataFrame, data: Path, accuracies: Mapping[str, float], validation: int, csv: Path, drawn: bytes
) -> str:
    """Return a self-contained page about a ranking; pictures are read from `data`.

    `accuracies` are those of probe.first_accuracies on `validation` images, `csv` is the file to complete, `drawn` the
    map of embedding_map.py.
    """
    likely = ranking[ranking["likely_wrong"] == "yes"]
    columns = ["path", "label", "looks_like", "label_probability", "probability"]
    items = [
        (
            thumbnail(data / path, _SIDE),
            f"labelled {label} ({of_label:.0%})\nlooks like {looks_like} ({most:.0%})\n{path}",
        )
        for path, label, looks_like, of_label, most in likely[columns].head(SHOWN).itertuples(index=False)
    ]
    pairs = Counter(zip(likely["label"], likely["looks_like"], strict=True)).most_common(_PAIRS)
    return pages.render(
        "curation/labels/label_report.html.j2",
        images=len(ranking),
        classes=ranking["label"].nunique(),
        likely=len(likely),
        accuracies=dict(accuracies),
        validation=validation,
        items=[item for item in items if item[0]],
        pairs=[(label, looks_like, f"{count:,}") for (label, looks_like), count in pairs],
        csv=csv.as_posix(),
        drawn=drawn,
        side=_SIDE,
    )
