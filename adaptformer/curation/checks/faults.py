"""Search for all faults of a data set in one pass: of single rows (row_schema.py), and across rows."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from adaptformer.base import csv_file, files
from adaptformer.base.errors import UserError
from adaptformer.data import groups
from adaptformer.data.image_facts import MIN_SIDE
from adaptformer.data.layout import SPLITS

FAULT_COLUMNS = ("path", "fault", "detail", "remedy")
_SHOWN = 20

_ONE_SPLIT = "keep the image in one split, or test results flatter the model"
_ROW_FAULTS = {
    "label": ("space around the class name", "rename the class folder"),
    "width": ("image too small", f"move images under {MIN_SIDE} pixels a side out of data/"),
    "height": ("image too small", f"move images under {MIN_SIDE} pixels a side out of data/"),
}


def check(manifest: pd.DataFrame, unreadable: pd.DataFrame, group: str | None = None) -> pd.DataFrame:
    """Return every fault of a scanned data set (manifest.scan), one row each; no rows if there are none.

    `group` is the pattern of groups (data/groups.py), if there is one. The columns are `path` (of a file or a class
    folder), `fault` (its kind), `detail` and `remedy`.
    """
    unread = _faults(unreadable["path"], "unreadable file", unreadable["reason"], "repair it, or move it out of data/")
    faults = pd.concat([unread, _row_faults(manifest), across_rows(manifest, group)], ignore_index=True)
    return faults.drop_duplicates(ignore_index=True)


def across_rows(manifest: pd.DataFrame, group: str | None = None) -> pd.DataFrame:
    """Return the faults across rows, with the columns of `check`."""
    return pd.concat(
        [
            _missing_in_train(manifest),
            _too_few_images(manifest),
            _single_class(manifest),
            _empty_splits(manifest, group),
            _alike_class_names(manifest),
            _same_bytes(manifest, "split", "duplicate across splits", _ONE_SPLIT),
            _split_groups(manifest, group),
            _same_bytes(manifest, "label", "conflicting labels", "keep the image in its one right class"),
        ],
        ignore_index=True,
    )


def _faults(paths: Iterable[str], fault: str, details: Iterable[str], remedy: str) -> pd.DataFrame:
    records = [(path, fault, detail, remedy) for path, detail in zip(paths, details, strict=True)]
    return pd.DataFrame.from_records(records, columns=list(FAULT_COLUMNS)).astype("str")


def _row_faults(manifest: pd.DataFrame) -> pd.DataFrame:
    from adaptformer.curation.checks import row_schema  # with pandera, which takes a second

    cases = row_schema.failures(manifest)
    if cases is None:
        return _faults([], "", [], "")
    # A case without an index concerns a whole column. Only a damaged manifest causes it, never a data set.
    whole = cases[cases["index"].isna()]
    if len(whole):
        raise UserError(
            f"the manifest's column {whole.iloc[0]['column']} is wrong: {whole.iloc[0]['check']}",
            "write it again with `adaptformer validate`",
        )
    tables = []
    for (column, rule), group in cases.groupby(["column", "check"], sort=True):
        fault, remedy = _ROW_FAULTS.get(str(column), (f"bad {column}", "move the file out of data/"))
        details = (f"{column} {value!r} ({rule})" for value in group["failure_case"])
        tables.append(_faults(manifest.loc[group["index"].astype(int), "path"], fault, details, remedy))
    return pd.concat(tables, ignore_index=True)


def _missing_in_train(manifest: pd.DataFrame) -> pd.DataFrame:
    learnt = set(manifest.loc[manifest["split"] == "train", "label"])
    missing = manifest.loc[~manifest["label"].isin(learnt), ["split", "label"]].drop_duplicates()
    return _faults(
        missing["split"] + "/" + missing["label"],
        "class missing in train",
        (f"{label} has no usable image in train" for label in missing["label"]),
        "add images of the class to train, or move its folder out of data/",
    )


def _too_few_images(manifest: pd.DataFrame) -> pd.DataFrame:
    """Find the classes with fewer than two distinct images outside test: training and validation need one each."""
    seen = manifest[manifest["split"] != "test"]
    counts = seen.groupby("label")["sha256"].nunique()
    alone = counts[counts == 1].index
    return _faults(
        [f"train/{label}" for label in alone],
        "class with one image",
        [f"{label} has one distinct image outside test, too few to train and validate" for label in alone],
        "add images of the class to train, or move the class out of data/",
    )


def _single_class(manifest: pd.DataFrame) -> pd.DataFrame:
    labels = manifest["label"].unique()
    alone = list(labels) if len(labels) == 1 else []
    paths, details = [f"train/{label}" for label in alone], [f"{label} is the only class" for label in alone]
    return _faults(paths, "single class", details, "add a folder for another class")


def _empty_splits(manifest: pd.DataFrame, pattern: str | None) -> pd.DataFrame:
    """Find the splits without an image; selection and evaluation need images in each split."""
    empty = [split for split in SPLITS if split not in set(manifest["split"])] if len(manifest) else []
    why, remedy = "", "put images into it, more images into train, or raise the fraction of it in section data"
    if pattern is not None:
        count = len(set(groups.of(manifest["path"].str.partition("/")[2], pattern)) - {""})
        why = f": none of the {count} groups could go there without a class leaving train"
        remedy = (
            "give each class at least three groups, change data.group_pattern, or put images into the split by hand"
        )
    return _faults(empty, "empty split", [f"{split} has no image{why}" for split in empty], remedy)


def _split_groups(manifest: pd.DataFrame, pattern: str | None) -> pd.DataFrame:
    """Find the images of groups that are in several splits."""
    names = pd.Series(groups.of(manifest["path"].str.partition("/")[2], pattern), manifest.index)
    splits = manifest["split"].groupby(names).transform(lambda group: ", ".join(sorted(set(group))))
    wrong = (names != "") & splits.str.contains(", ")
    details = [f"group {name} is in {where}" for name, where in zip(names[wrong], splits[wrong], strict=True)]
    return _faults(manifest.loc[wrong, "path"], "group across splits", details, "keep the whole group in one split")


def _alike_class_names(manifest: pd.DataFrame) -> pd.DataFrame:
    """Find class names that differ only in case or outer spaces: many file systems treat them as one folder."""
    places = manifest[["split", "label"]].drop_duplicates()
    alike = places["label"].str.strip().str.casefold()
    names = places["label"].groupby(alike).transform(lambda group: ", ".join(sorted(set(group))))
    wrong = places["label"].groupby(alike).transform("nunique") > 1
    return _faults(
        places.loc[wrong, "split"] + "/" + places.loc[wrong, "label"],
        "class names alike",
        names[wrong],
        "give the class one name in every split",
    )


def _same_bytes(manifest: pd.DataFrame, column: str, fault: str, remedy: str) -> pd.DataFrame:
    """Find files whose bytes occur with several values of `column`; each detail names a file with another value."""
    wrong = manifest[manifest.groupby("sha256")[column].transform("nunique") > 1]
    # Vectorised, because a loop over groups takes a minute if all of 60,000 images are duplicates.
    firsts = wrong.drop_duplicates("sha256").set_index("sha256")
    is_first_value = wrong[column] == wrong["sha256"].map(firsts[column])
    seconds = wrong[~is_first_value].drop_duplicates("sha256").set_index("sha256")
    others = {
        name: wrong["sha256"].map(firsts[name]).mask(is_first_value, wrong["sha256"].map(seconds[name]))
        for name in ("path", column)
    }
    details = [
        f"{column} {value}; the same bytes have {column} {other_value}: {other_path}"
        for value, other_value, other_path in zip(wrong[column], others[column], others["path"], strict=True)
    ]
    return _faults(wrong["path"], fault, details, remedy)


def fault_table(faults: pd.DataFrame) -> str:
    """Return the first faults, one line each: path, kind and detail."""
    shown = faults.head(_SHOWN)
    lines = [f"{path}: {fault} ({detail})" for path, fault, detail, _ in shown.itertuples(index=False)]
    if len(faults) > len(shown):
        lines.append(f"... and {len(faults) - len(shown)} more")
    return "\n".join(lines)


def raise_on_faults(faults: pd.DataFrame, csv_path: Path) -> None:
    """If there are faults, write them all to `csv_path` and raise UserError."""
    if faults.empty:
        return
    files.write_text(csv_path, csv_file.text(faults))
    kinds = ", ".join(f"{count} x {kind}" for kind, count in faults["fault"].value_counts(sort=False).items())
    first = faults.iloc[0]
    total = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    raise UserError(
        f"data/ has {total}: {kinds}; first: {first['path']!r} ({first['detail']})",
        f"correct what {csv_path} lists or move it out of data/, run `dvc add data`, then run the same command again",
    )
