"""The record of a run folder of `fit`: the images and the values that it belongs to.

A folder belongs to one source of images, in one state, and to one set of values. The same call continues there; another
one is refused, so that no call replaces the results of another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from adaptformer.base import files, integrity
from adaptformer.base.errors import UserError, without_credentials
from adaptformer.base.names import shown
from adaptformer.config.params import Params, flat, tracked
from adaptformer.config.run_folder import RunFolder
from adaptformer.data.layout import visible_files

NAME = "fit.json"
_ANOTHER = "give another folder for this run: out=… in Python, --output on the command line"


@dataclass(frozen=True)
class RunRecord:
    """The source's name and state, the values asked for, and those that the import decided; `imported` if it is done.

    `decided` are the values that `data import` would write into params.yaml.
    """

    source: str
    state: str
    values: Mapping[str, Any]
    decided: Mapping[str, Any]
    imported: bool = False

    def text(self) -> str:
        """Return the text of the record's file."""
        return integrity.record(asdict(self))

    def done(self, decided: Mapping[str, Any]) -> RunRecord:
        """Return the record after the import, which decided further values."""
        return replace(self, decided={**self.decided, **decided}, imported=True)


def begun(folder: RunFolder, source: str, values: Params) -> RunRecord:
    """Return the record of a run folder for this call; write it if the folder is new or has no images yet.

    Raises UserError if the folder holds anything else: another run, or files that are not of a run.
    """
    path = folder.root / NAME
    record = RunRecord(source, state(source), tracked(values), _decided(source))
    if path.is_file():
        present = read(folder)
        if present.imported:
            _require_same(folder, present, record)
            record = replace(present, values=record.values)
        if present == record:
            return present
    elif strange := sorted(one.name for one in folder.root.iterdir() if not one.name.startswith(".")):
        more = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
        raise UserError(
            f"{folder.root}/ is no folder of an earlier `fit`, and holds {shown(strange[0])}{more}", _ANOTHER
        )
    files.write_text(path, record.text())
    return record


def read(folder: RunFolder) -> RunRecord:
    """Return the record of a run folder. Raises UserError if there is none, or if it was altered."""
    path = folder.root / NAME
    if not path.is_file():
        raise UserError(f"{folder.root}/ is no folder of a run of `fit`", "give the folder that `fit` was given")
    return RunRecord(**integrity.read_record(path, _ANOTHER))


def state(source: str) -> str:
    """Return a text that changes when a source does: a hash over its files' paths, sizes and times, or over the list.

    For a source that is not on this machine it is the address.
    """
    path = Path(source)
    if path.is_file():
        return files.sha256_file(path)
    if not path.is_dir():
        return source
    listed = sorted(Path(place) / name for place, names in visible_files(path) for name in names)
    rows = [[one.relative_to(path).as_posix(), one.stat().st_size, one.stat().st_mtime_ns] for one in listed]
    return files.sha256_text(files.canonical_json(rows))


def _decided(source: str) -> dict[str, Any]:
    """Return the values that `data import` sets whatever the images are: the data set's name and date."""
    path = Path(source)
    name = path.stem if path.is_file() else path.resolve().name if path.is_dir() else without_credentials(source)
    return {"data.name": name, "data.date": files.utc_now()[:10]}


def _require_same(folder: RunFolder, present: RunRecord, record: RunRecord) -> None:
    if present.state != record.state:
        cause = f"{folder.root}/ is a run on {present.source} as it was when the run began; {record.source} differs now"
        raise UserError(cause, _ANOTHER)
    before, now = flat(present.values), flat(record.values)
    # Until something is trained, nothing is lost by other values, but for those that made the splits.
    trained = folder.adapter.exists() or folder.resume_state.exists()
    for key in sorted(key for key in before.keys() | now.keys() if trained or key.startswith("data.")):
        if before.get(key) != now.get(key):
            raise UserError(
                f"{folder.root}/ is a run with {key} = {before.get(key)}, and this one has {now.get(key)}", _ANOTHER
            )
