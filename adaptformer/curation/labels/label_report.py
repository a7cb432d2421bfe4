"""The page about labels: images whose labels are likely wrong, large enough to judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from adaptformer import pages
from adaptformer.curation.checks.thumbnails import thumbnail
from adaptformer.curation.labels import embedding_map
from adaptformer.curation.labels.embedding_map import Point

SHOWN, _PAIRS = 100, 20
_LISTED = 20
"""The largest number of classes in the map's legend: with more, it would be larger than the map."""
_SIDE = 160
"""Pixels of a picture on the page."""


def html(
    ranking: pd.DataFrame,
    data: Path,
    accuracies: Mapping[str, float],
    validation: int,
    csv: Path,
    points: Sequence[Point],
) -> str:
    """Return a self-contained page about a ranking; pictures are read from `data`.

    `accuracies` are those of probe.first_accuracies on `validation` images, `csv` is the file to complete, `points`
    are those of the map.
    """
    likely = ranking[ranking["likely_wrong"] == "yes"]
    columns = ["path", "label", "looks_like", "label_probability", "probability"]
    items = [
        (
            thumbnail(data / path, _SIDE),
            f"labelled {label} ({of_label:.0%})\nlooks like {looks_like} ({most:.0%})\n{path}",
            path,
        )
        for path, label, looks_like, of_label, most in likely[columns].head(SHOWN).itertuples(index=False)
    ]
    items = [item for item in items if item[0]]
    classes = sorted(set(ranking["label"]))
    pairs = Counter(zip(likely["label"], likely["looks_like"], strict=True)).most_common(_PAIRS)
    return pages.render(
        "curation/labels/label_report.html.j2",
        images=len(ranking),
        classes=len(classes),
        likely=len(likely),
        accuracies=dict(accuracies),
        validation=validation,
        items=[(picture, caption) for picture, caption, _ in items],
        pairs=[(label, looks_like, f"{count:,}") for (label, looks_like), count in pairs],
        csv=csv.as_posix(),
        points=points,
        size=(embedding_map.WIDTH, embedding_map.HEIGHT),
        legend=_legend(classes) if len(classes) <= _LISTED else [],
        picture_of={path: number for number, (_, _, path) in enumerate(items, start=1)},
        side=_SIDE,
    )


def _legend(classes: Sequence[str]) -> list[tuple[str, int, str]]:
    """Return each class with the number of its colour and its shape, drawn in a square of 12 units."""
    looks = ((name, *embedding_map.look(number)) for number, name in enumerate(classes))
    return [(name, colour, embedding_map.outline(shape, 6, 6)) for name, colour, shape in looks]
