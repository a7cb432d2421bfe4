"""The page about a data set: what is in it, how it is split, and what deserves a look."""

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
    body = [
        html_page.tiles(
            [
                ("images", f"{len(manifest):,}"),
                ("classes", f"{len(counts):,}"),
                *((split, f"{counts[split].sum():,}") for split in SPLITS),
                ("size on disk", f"{manifest['bytes'].sum() / 1e6:,.1f} MB"),
            ]
        ),
        html_page.warnings(warnings(manifest)),
        html_page.section("Classes", _class_table(counts)),
        html_page.section("Images", _size_table(manifest) + _common(manifest)),
        html_page.section("Duplicates within a split", _duplicates(manifest)),
        html_page.section("Examples", _examples(manifest, data)),
    ]
    return html_page.page("Data report", "\n".join(part for part in body if part))


def warnings(manifest: pd.DataFrame) -> list[str]:
    """Return what is no fault but deserves a look: one line each."""
    counts = _counts(manifest)
    lines = []
    for split in ("validation", "test"):
        missing = list(counts.index[counts[split] == 0])
        if missing:
            lines.append(f"{_some(missing)}: no image in {split}, so nothing is known about how well it is recognised")
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
        lines.append(f"{repeated:,} exact duplicates within a split count more than once")
    return lines


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def _counts(manifest: pd.DataFrame) -> pd.DataFrame:
    """Return images per class (rows, sorted) and split (columns)."""
    table = pd.crosstab(manifest["label"], manifest["split"])
    return table.reindex(columns=list(SPLITS), fill_value=0)


def _class_table(counts: pd.DataFrame) -> str:
    largest = int(counts["train"].max())
    rows = [(label, *map(int, row), html_page.bar(row[0] / largest)) for label, *row in counts.itertuples()]
    return html_page.table(["class", *SPLITS, "images in train"], rows, "images per class and split")


def _size_table(manifest: pd.DataFrame) -> str:
    sides = manifest[["width", "height", "bytes"]].quantile([0.0, 0.5, 1.0], interpolation="lower").astype("int64")
    rows = [(name, *map(int, sides[name])) for name in sides]
    return html_page.table(["", "least", "median", "most"], rows, "width and height in pixels, files in bytes")


def _common(manifest: pd.DataFrame) -> str:
    sizes = (manifest["width"].astype("str") + " x " + manifest["height"].astype("str")).rename("size")
    return "".join(
        html_page.table([str(values.name), "images"], _most_common(values), caption)
        for values, caption in ((sizes, "most common sizes in pixels"), (manifest["mode"], "pixel modes, as stored"))
    )


def _most_common(values: pd.Series[str]) -> list[tuple[str, int]]:
    counts = values.value_counts()
    # Equal counts come in no fixed order: sort by name within.
    return sorted(((str(name), int(n)) for name, n in counts.items()), key=lambda pair: (-pair[1], pair[0]))[:10]


def _duplicates(manifest: pd.DataFrame) -> str:
    repeated = manifest[manifest.duplicated(["split", "sha256"], keep=False)]
    if repeated.empty:
        return '<p class="soft">None.</p>'
    groups = [(str(split), ", ".join(group)) for (split, _), group in repeated.groupby(["split", "sha256"])["path"]]
    return html_page.table(["split", "the same bytes"], sorted(groups)[:_LISTED], f"{len(groups):,} groups")


def _examples(manifest: pd.DataFrame, data: Path) -> str:
    train = manifest[manifest["split"] == "train"]
    # By hash: neither the first files by name, which are often alike, nor a random draw.
    chosen = train.sort_values("sha256").groupby("label", sort=True).head(_PICTURES_PER_CLASS)
    labels = sorted(chosen["label"].unique())[:_CLASSES_PICTURED]
    shown = chosen[chosen["label"].isin(labels)].sort_values(["label", "sha256"])
    items = [(thumbnail(data / path), label) for path, label in zip(shown["path"], shown["label"], strict=True)]
    hidden = train["label"].nunique() - len(labels)
    note = f'<p class="soft">{hidden:,} more classes are not shown.</p>' if hidden else ""
    return html_page.pictures([(png, label) for png, label in items if png]) + note
