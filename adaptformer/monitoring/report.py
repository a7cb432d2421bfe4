"""The report on new images: expected accuracy, drift, and the images to label next."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from adaptformer import pages
from adaptformer.curation.checks.thumbnails import thumbnail
from adaptformer.monitoring.monitor import Findings

_SIDE = 128
"""Side of a picture on the page in pixels."""
_SHOWN = 100
_VERDICTS = {"warn": "differs", "pass": "alike"}


def html(findings: Findings, folder: Path, list_path: Path) -> str:
    """Return a self-contained page; images are read from `folder`, `list_path` is the CSV file to fill in."""
    to_label = findings.table[findings.table["label_next"] > 0].sort_values("label_next")
    columns = ["path", "predicted", "confidence"]
    items, unlike_items = (
        [
            (thumbnail(folder / path, _SIDE), f"{path}\n{predicted} {confidence:.0%}")
            for path, predicted, confidence in rows[columns].head(_SHOWN).itertuples(index=False)
        ]
        for rows in (to_label[to_label["unlike"] == ""], to_label[to_label["unlike"] == "yes"])
    )
    counts = findings.table["predicted"].value_counts()
    rows = sorted(counts.items(), key=lambda pair: (-pair[1], str(pair[0])))
    shares, edges = np.histogram(findings.table["confidence"], bins=10, range=(0, 1))
    confidences = [
        (f"{100 * low:.0f} to {100 * high:.0f} %", int(count))
        for low, high, count in zip(edges[:-1], edges[1:], shares, strict=True)
        if count
    ]
    return pages.render(
        "monitoring/report.html.j2",
        findings=findings,
        drift=[
            (check.name.removeprefix("drift of "), _VERDICTS.get(check.verdict, check.reason), check.value, check.bound)
            for check in findings.drift
        ],
        answers=[(str(name), f"{count:,}", f"{100 * count / len(findings.table):.1f} %") for name, count in rows],
        confidences=[(name, count, count / len(findings.table)) for name, count in reversed(confidences)],
        items=[item for item in items if item[0]],
        unlike_items=[item for item in unlike_items if item[0]],
        list=list_path.as_posix(),
        side=_SIDE,
    )
