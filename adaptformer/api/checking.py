"""Checks of labelled images where they are, before anything is imported: faults, findings, labels that seem wrong.

Nothing is written beside the images. Their splits are those that `fit` would make.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adaptformer.api import call_logging, settings
from adaptformer.base import progress
from adaptformer.base.errors import UserError
from adaptformer.config.params import Params
from adaptformer.config.run_folder import RunFolder
from adaptformer.curation.checks import faults as data_faults
from adaptformer.curation.checks import findings
from adaptformer.curation.importing import copying, csv_list, importing, rules, sources
from adaptformer.curation.importing.listing import Image
from adaptformer.data import image_scan, manifest
from adaptformer.data.image_files import Limits
from adaptformer.data.image_scan import ReadOptions


@dataclass(frozen=True)
class _Scan:
    """The usable images of a source as a manifest, and each one's path there; the pictures and faults of all."""

    table: pd.DataFrame
    places: Mapping[str, str]
    paths: Mapping[str, Path]
    pictures: NDArray[np.uint8]
    unreadable: pd.DataFrame
    group: str | None

    def place(self, path: str) -> str:
        """Return the path in the source of an image of the table; any other text stays as it is."""
        return self.places.get(path, path)


def check(photos: str | os.PathLike[str], *, overrides: Mapping[str, object] | None = None) -> pd.DataFrame:
    """Return everything that `fit` would refuse or warn of in labelled images, as a table with one row each.

    `photos` and `overrides` are as in `fit`. The columns are `kind`; `level`, which is "fault" for what `fit` refuses,
    else that of section `checks`; `path` in the source, of an image or of SPLIT/CLASS; `other`, the image that it
    repeats; `detail`; and `fix`. Raises UserError if `photos` is no source of images.

    >>> table = af.check("photos/")
    >>> list(table.columns)
    ['kind', 'level', 'path', 'other', 'detail', 'fix']
    >>> bool((table["level"] == "fault").any())
    False
    """
    params = settings.resolved(overrides=overrides).params()
    with call_logging.to_log(), _scanned(os.fspath(photos), params) as scan:
        faults = data_faults.check(scan.table, scan.unreadable, scan.group)
        refused = [
            (fault, "fault", scan.place(path), "", detail, remedy)
            for fault, path, detail, remedy in faults[["fault", "path", "detail", "remedy"]].itertuples(index=False)
        ]
        warned = [
            (
                one.kind, findings.level(one.kind, params.checks), scan.place(one.path), scan.place(one.other),
                one.detail.replace(one.other, scan.place(one.other)) if one.other else one.detail,
                findings.FIXES[one.kind],
            )
            for one in findings.find(scan.table, scan.pictures, params.checks)
        ]  # fmt: skip
        return pd.DataFrame([*refused, *warned], columns=list(findings.COLUMNS), dtype="str")


def label_errors(
    photos: str | os.PathLike[str], *, backbone: str | None = None, overrides: Mapping[str, object] | None = None
) -> pd.DataFrame:
    """Return all images, the most likely wrong label first, by how well the backbone's features fit their class.

    `photos`, `backbone` and `overrides` are as in `fit`. The columns are `path` in the source, `label`, `looks_like`,
    `probability` (of that class), `label_probability`, and `likely_wrong`, which is whether confident learning takes
    the label for wrong. Images that cannot be judged, because all others of their class are copies of them, come last,
    with an empty `looks_like`. Raises UserError for a source with a file that cannot be used.

    >>> table = af.label_errors("photos/")
    >>> int(table["likely_wrong"].sum())
    0
    """
    from adaptformer.curation.labels import ranking  # with cleanlab and torch, which `check` does without

    params = settings.resolved(backbone, overrides=overrides).params()
    with call_logging.to_log(), _scanned(os.fspath(photos), params) as scan:
        if len(scan.unreadable):
            first = scan.unreadable.iloc[0]
            raise UserError(
                f"{len(scan.unreadable)} files cannot be used: {first['path']}: {first['reason']}",
                "repair them, or move them away: `check` lists them all",
            )
        repeated = findings.find(scan.table, scan.pictures, params.checks)
        duplicates = [(one.path, one.other) for one in repeated if one.other]
        ranked = ranking.rank(scan.table, _features(scan, params), scan.group, duplicates)
        return ranked.drop(columns="new_label").assign(
            path=ranked["path"].map(scan.places), likely_wrong=ranked["likely_wrong"] == "yes"
        )


def _features(scan: _Scan, params: Params) -> NDArray[np.float32]:
    """Return the backbone's features of the images, computed in a folder that is removed afterwards."""
    from adaptformer.model import device
    from adaptformer.model.embedding import Embedding
    from adaptformer.pipeline.stages import fetch

    with tempfile.TemporaryDirectory() as scratch:
        folder = RunFolder(Path(scratch), alone=True)
        fetch(params, folder, lambda _row: None)
        compute = device.choose(params.runtime.device, params.runtime.threads)
        embedding = Embedding(folder.backbone, params.image, compute, folder.embeddings)
        there = scan.table.assign(path=[str(scan.paths[path].absolute()) for path in scan.table["path"]])
        return embedding.of_data(there, Path(), None)


@contextlib.contextmanager
def _scanned(source: str, params: Params) -> Iterator[_Scan]:
    """Yield what is known of the images of a source, each read once. Raises UserError as `data import` does."""
    limits = Limits.of(params.data.max_file_mb, params.data.max_megapixels)
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        with sources.listing(source, work / "data", work / "source", limits.bytes or 0) as listed:
            images = rules.checked(listed).images
            yield _scan([*images], params, limits)


def _scan(images: Sequence[Image], params: Params, limits: Limits) -> _Scan:
    readable = [image for image in images if not image.fault]
    pictures: dict[int, NDArray[np.uint8]] = {}
    read = image_scan.read_all([image.path for image in readable], pictures.__setitem__, ReadOptions(limits=limits))
    facts = list(progress.steps(read, "checking", len(readable), "images"))
    faults = [(image.place, image.fault) for image in images if image.fault]
    faults += [(image.place, one) for image, one in zip(readable, facts, strict=True) if isinstance(one, str)]
    good = [(i, one) for i, one in enumerate(facts) if not isinstance(one, str)]
    usable = [readable[i] for i, _ in good]
    sides, _ = importing.splits_of(usable, [one.sha256 for _, one in good], params.data)
    names = copying.free_names(usable, sides)
    paths = [f"{side}/{image.label}/{name}" for side, image, name in zip(sides, usable, names, strict=True)]
    rows = [
        {"path": path, "label": image.label, "split": side, **one._asdict()}
        for path, image, side, (_, one) in zip(paths, usable, sides, good, strict=True)
    ]
    if not rows:
        raise UserError("no file of the source is a usable image", "give a folder that holds one folder per class")
    return _Scan(
        table=pd.DataFrame.from_records(rows, columns=list(manifest.COLUMNS)),
        places={path: image.place for path, image in zip(paths, usable, strict=True)},
        paths={path: image.path for path, image in zip(paths, usable, strict=True)},
        pictures=np.stack([pictures[i] for i, _ in good]),
        unreadable=pd.DataFrame(faults, columns=["path", "reason"], dtype="str"),
        group=csv_list.GROUP_PATTERN if any(image.group for image in usable) else params.data.group_pattern,
    )
