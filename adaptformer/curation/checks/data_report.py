"""The report page of a data set: its classes, splits, image sizes and findings."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import pandas as pd

from adaptformer import pages
from adaptformer.config.params import DataParams
from adaptformer.curation.checks.findings import FIXES, Finding, Summary
from adaptformer.curation.checks.thumbnails import thumbnail
from adaptformer.data.layout import SPLITS

_PICTURES_PER_CLASS = 4
_CLASSES_PICTURED = 50
_LISTED = 24


def page(manifest: pd.DataFrame, data: Path, findings: Sequence[Finding], summary: Summary, params: DataParams) -> str:
    """Return a self-contained HTML page about a checked data set and its findings; equal data gives equal text.

    It contains no date except that of the images in `params`, no host name and no absolute path. Thumbnails are read
    from `data`; missing files are left out.
    """
    counts = _counts(manifest)
    sides = manifest[["width", "height", "bytes"]].quantile([0.0, 0.5, 1.0], interpolation="lower").astype("int64")
    pixels = manifest["width"].astype("str") + " x " + manifest["height"].astype("str")
    examples, hidden_classes = _examples(manifest, data)
    return pages.render(
        "curation/checks/data_report.html.j2",
        params=params,
        manifest=manifest,
        warnings=list(summary.lines.values()),
        splits=list(SPLITS),
        counts=counts,
        sizes=[(name, *map("{:,}".format, sides[name])) for name in sides],
        common_sizes=_most_common(pixels),
        common_modes=_most_common(manifest["mode"]),
        findings=_shown(findings, summary, data),
        examples=examples,
        hidden_classes=hidden_classes,
    )


def _counts(manifest: pd.DataFrame) -> pd.DataFrame:
    """Return images per class (rows, sorted) and split (columns)."""
    table = pd.crosstab(manifest["label"], manifest["split"])
    return table.reindex(columns=list(SPLITS), fill_value=0)


def _most_common(values: pd.Series[str]) -> list[tuple[str, str]]:
    # The order of equal counts is not fixed, so they are sorted by name.
    counts = sorted(values.value_counts().items(), key=lambda pair: (-pair[1], str(pair[0])))
    return [(str(name), f"{count:,}") for name, count in counts[:10]]


def _shown(
    findings: Sequence[Finding], summary: Summary, data: Path
) -> list[tuple[str, str, int, list[tuple[str, list[tuple[bytes, str]]]]]]:
    """Return each kind of finding: its name, remedy and number, and the first ones with their thumbnails."""
    kinds = []
    for kind, number in summary.counts.items():
        firsts = islice((finding for finding in findings if finding.kind == kind), _LISTED)
        rows = [
            (
                f"{one.path}: {one.detail}",
                [(thumbnail(data / name), name) for name in (one.path, one.other) if (data / name).is_file()],
            )
            for one in firsts
        ]
        kinds.append((kind.replace("_", " "), FIXES[kind], number, rows))
    return kinds


def _examples(manifest: pd.DataFrame, data: Path) -> tuple[list[tuple[bytes, str]], int]:
    """Return thumbnails with their classes, and the number of classes left out because there are too many."""
    train = manifest[manifest["split"] == "train"]
    # By hash: the first files by name are often similar, and a random draw would not be reproducible.
    per_class = train.sort_values("sha256").groupby("label", sort=True).head(_PICTURES_PER_CLASS)
    labels = sorted(per_class["label"].unique())[:_CLASSES_PICTURED]
    shown = per_class[per_class["label"].isin(labels)].sort_values(["label", "sha256"])
    items = [(thumbnail(data / path), label) for path, label in zip(shown["path"], shown["label"], strict=True)]
    return [(png, label) for png, label in items if png], train["label"].nunique() - len(labels)
