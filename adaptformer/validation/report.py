"""The page about a data set: what is in it, how it is split, and what deserves attention."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from adaptformer import html_page
from adaptformer.data.layout import SPLITS
from adaptformer.validation.thumbnails import thumbnail

_PICTURES_PER_CLASS = 4
_CLASSES_PICTURED = 50
_LISTED = 50
_FEW_IMAGES = 10
_IMBALANCE = 10


def data_report(manifest: pd.DataFrame, data: Path) -> str:
    """Return a self-contained HTML page about a checked data set; equal data gives equal text.

    It holds no date, host or absolute path. Thumbnails are read from `data`; a file that is gone is left out.
    """
    counts = _counts(manifest)
    sides = manifest[["width", "height", "bytes"]].quantile([0.0, 0.5, 1.0], interpolation="lower").astype("int64")
    pixels = manifest["width"].astype("str") + " x " + manifest["height"].astype("str")
    examples, hidden_classes = _examples(manifest, data)
    return html_page.render(
        "validation/report.html.j2",
        manifest=manifest,
        warnings=warnings(manifest),
        splits=list(SPLITS),
        counts=counts,
        sizes=[(name, *map("{:,}".format, sides[name])) for name in sides],
        common_sizes=_most_common(pixels),
        common_modes=_most_common(manifest["mode"]),
        duplicates=_duplicates(manifest),
        listed=_LISTED,
        examples=examples,
        hidden_classes=hidden_classes,
    )


def warnings(manifest: pd.DataFrame) -> list[str]:
    """Return what is no fault but deserves attention: one line each."""
    counts = _counts(manifest)
    lines = []
    for split in ("validation", "test"):
        missing = list(counts.index[counts[split] == 0])
        if missing:
            lines.append(f"{_some(missing)}: no images in {split}, so its accuracy there is unknown")
    few = list(counts.index[counts["train"] < _FEW_IMAGES])
    if few:
        lines.append(f"{_some(few)}: fewer than {_FEW_IMAGES} images in train")
    if len(counts) and counts["train"].max() > _IMBALANCE * max(counts["train"].min(), 1):
        lines.append(
            f"classes differ more than {_IMBALANCE}-fold in size: {counts['train'].idxmax()} has "
            f"{counts['train'].max():,} images in train, {counts['train'].idxmin()} has {counts['train'].min():,}"
        )
    repeated = int(manifest.duplicated(["split", "sha256"]).sum())
    if repeated:
        noun = "duplicate" if repeated == 1 else "duplicates"
        lines.append(f"{repeated:,} exact {noun} within a split: the same image counts more than once")
    return lines


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def _counts(manifest: pd.DataFrame) -> pd.DataFrame:
    """Return images per class (rows, sorted) and split (columns)."""
    table = pd.crosstab(manifest["label"], manifest["split"])
    return table.reindex(columns=list(SPLITS), fill_value=0)


def _most_common(values: pd.Series[str]) -> list[tuple[str, str]]:
    # Equal counts come in no fixed order: sort by name within.
    counts = sorted(values.value_counts().items(), key=lambda pair: (-pair[1], str(pair[0])))
    return [(str(name), f"{count:,}") for name, count in counts[:10]]


def _duplicates(manifest: pd.DataFrame) -> list[tuple[str, str]]:
    """Return each group of files with the same bytes as its split and the files' paths."""
    repeated = manifest[manifest.duplicated(["split", "sha256"], keep=False)]
    groups = repeated.groupby(["split", "sha256"])["path"]
    return sorted((str(split), ", ".join(paths)) for (split, _), paths in groups)


def _examples(manifest: pd.DataFrame, data: Path) -> tuple[list[tuple[bytes, str]], int]:
    """Return thumbnails with their classes, and the number of classes that have none because there are too many."""
    train = manifest[manifest["split"] == "train"]
    # By hash: neither the first files by name, which are often alike, nor a random draw.
    chosen = train.sort_values("sha256").groupby("label", sort=True).head(_PICTURES_PER_CLASS)
    labels = sorted(chosen["label"].unique())[:_CLASSES_PICTURED]
    shown = chosen[chosen["label"].isin(labels)].sort_values(["label", "sha256"])
    items = [(thumbnail(data / path), label) for path, label in zip(shown["path"], shown["label"], strict=True)]
    return [(png, label) for png, label in items if png], train["label"].nunique() - len(labels)
