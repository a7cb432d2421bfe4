"""`fit`: images to a trained, evaluated and exported model, in a folder of its own."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from adaptformer.api import call_logging, run_record, settings
from adaptformer.api.run import Run
from adaptformer.api.run_record import RunRecord
from adaptformer.base.names import stored
from adaptformer.config.params import Params
from adaptformer.config.run_folder import RunFolder
from adaptformer.curation.importing import copying, csv_list, importing, replacement, sources
from adaptformer.curation.importing.importing import ImportSummary
from adaptformer.curation.importing.replacement import Change
from adaptformer.data.stat_cache import StatCache
from adaptformer.pipeline import records, stage_runner
from adaptformer.pipeline.stages import STAGES

log = logging.getLogger("adaptformer")

RUNS = Path("runs")
"""Where a run's folder is if none is given."""


def fit(
    photos: str | os.PathLike[str],
    *,
    backbone: str | None = None,
    epochs: int | None = None,
    out: str | os.PathLike[str] | None = None,
    overrides: Mapping[str, object] | None = None,
    presets: Sequence[str] = (),
    skip_bad: bool = False,
) -> Run:
    """Train, evaluate and export a model of labelled images, and return the run.

    `photos` is a folder with one folder per class (or with train/, validation/ and test/ above them), a CSV file with
    the columns path and label, or anything else that `adaptformer data import` takes. The images are copied to
    `out`/data; missing validation and test splits are made. `backbone` is a name that `adaptformer backbones` lists, in
    full or in short (`dinov2-small`), `hub:REPOSITORY`, or `file:PATH`; by default the small one that comes with the
    package. `overrides` are values of params.yaml by dotted key, `presets` names of sets of them. Without `out`, the
    folder is runs/NAME, by the name of `photos`. With `skip_bad`, files that are not usable images are left out and
    listed in left_out.csv; otherwise they are an error.

    The folder belongs to these images and values: the same call again skips what is done, continues what was stopped,
    and returns the same run. Raises UserError, which says what to do, for images that cannot be used, for an unknown
    name or value, and for a folder that holds anything else.

    >>> run = af.fit("photos/", epochs=2, out="runs/pets")
    >>> run.metrics["images"]
    9
    >>> run.report
    Report('runs/pets/report.html')
    """
    source = os.fspath(photos)
    folder = place(source, out)
    values = settings.resolved(backbone, epochs, overrides, presets)
    asked = values.params()
    sources.refuse(source, folder.data)
    with call_logging.to_log(), folder.lock("adaptformer fit"):
        replacement.settle(folder.data)  # an import that was killed is completed or taken back
        record = run_record.begun(folder, source, asked)
        if not record.imported:
            record = _imported(folder, source, values.params(record.decided), record, skip_bad=skip_bad)
        _run_stages(values.params(record.decided), folder)
    return Run(folder.root)


def place(source: str, out: str | os.PathLike[str] | None) -> RunFolder:
    """Return the run folder for a source of images: `out`, or runs/NAME."""
    path = Path(source)
    root = RUNS / stored(path.resolve().stem or "images") if out is None else Path(out)
    return RunFolder(root, root / "data", alone=True)


def _imported(folder: RunFolder, source: str, params: Params, record: RunRecord, *, skip_bad: bool) -> RunRecord:
    """Copy the images into the run folder and return the run's record, which is written together with them."""
    done = record

    def change(summary: ImportSummary) -> Change:
        nonlocal done
        done = record.done({"data.group_pattern": csv_list.GROUP_PATTERN} if summary.groups else {})
        log.info("%s/ holds %s", folder.data, summary)
        if summary.shorter_side >= 4 * params.image.size:
            log.warning(
                "warning: half of the images have a shorter side of %d pixels or more, and the model sees %d: "
                "a backbone for photos sees more of them (`adaptformer backbones`)",
                summary.shorter_side, params.image.size,
            )  # fmt: skip
        return Change("", files={str(folder.root.resolve() / run_record.NAME): done.text()})

    known = StatCache(folder.stat_cache)
    manner = copying.Manner(skip_bad, folder.root / "left_out.csv", folder.root / ".download", known)
    importing.import_folder(source, folder.data, params.data, replace=False, manner=manner, change=change)
    known.write()
    return done


def _run_stages(params: Params, folder: RunFolder) -> None:
    """Run those of the stages that are not current."""
    runner = stage_runner.Runner(params, folder, records.of_run(params, folder))
    for name in STAGES:
        runner.bring_up_to_date(name)
