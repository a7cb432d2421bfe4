"""Choice of the model that answers: the named one, else the champion, else the model in the run folder.

A model is named as `champion`, `v3`, `models:/NAME@ALIAS`, `models:/NAME/3`, or by its file. The champion and the
verdicts are read from the checkout's record (local_record.py), or MLflow is asked; MLflow is imported only then.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from adaptformer.base.errors import UserError
from adaptformer.config.run_folder import RunFolder
from adaptformer.prediction import model_file
from adaptformer.registry import local_record
from adaptformer.registry.local_record import Record
from adaptformer.tracking.locations import database

PARAMS = Path("params.yaml")
FORMS = "champion, v3, models:/NAME@ALIAS, or a file"
_ADDRESS = "models:/"
_CHAMPION = "champion"
_WITHOUT_IT = f"a model's file, such as {RunFolder().model} (--model), needs no registry"


@dataclass(frozen=True)
class ModelChoice:
    """The model that answers, in one line with its verdict: a version of a registered model, or else a `file`."""

    line: str
    name: str = ""
    version: str = ""
    sha256: str = ""
    file: Path | None = None


def choose(named: str | None, folder: RunFolder, *, ask: bool = False) -> ModelChoice:
    """Return the model that `named` names, without fetching it: the champion or the folder's model if it is None.

    With `ask` MLflow is asked which version is champion, instead of reading the record of this checkout. Raises
    UserError if the named model does not exist.
    """
    if named is None:
        name = _registered_name()
        record = None if name is None else _record(name, ask=ask)
        return _file(str(folder.model)) if record is None or record.champion is None else _champion(record)
    if named == _CHAMPION:
        return _champion(_wanted_record(ask=ask))
    if match := re.fullmatch(r"v(\d+)", named):
        record = _wanted_record(ask=ask)
        return _version(record if match[1] in record.versions else _wanted_record(ask=True), match[1])
    return _address(named) if named.startswith(_ADDRESS) else _file(named)


def file_of(answering: ModelChoice, folder: RunFolder, scratch: Path) -> Path:
    """Return the ONNX file of a chosen model; fetch it into `scratch` if it is neither kept nor in `folder`.

    A champion's file is kept from then on. Raises UserError if MLflow does not return the file.
    """
    if answering.file is not None:
        return answering.file
    if (there := local_record.kept(answering.sha256)) is not None:
        return there
    if answering.sha256 and folder.model.is_file() and model_file.sha256(folder.model) == answering.sha256:
        return local_record.keep(folder.model)
    from adaptformer.registry import versions
    from adaptformer.tracking import mlflow_store

    with mlflow_store.user_errors(_WITHOUT_IT):
        client = mlflow_store.connect()
        fetched = versions.fetch_model(client, answering.name, answering.version, scratch)
    record = local_record.read(answering.name)
    return local_record.keep(fetched) if record is not None and record.champion == answering.version else fetched


def _file(named: str) -> ModelChoice:
    path = Path(named)
    if "://" in named:
        raise UserError(f"{named} is an address, and the model is read from a file", "download it and give its path")
    if path.is_dir():
        raise UserError(f"{path} is a folder", f"name the file in it, such as {path / 'model.onnx'}")
    if not path.is_file():
        raise UserError(f"{path} does not exist", f"run the pipeline first (`make run`), or give --model: {FORMS}")
    if (known := local_record.version_of(path)) is not None:
        return ModelChoice(known[0].line(known[1]), file=path)
    within = path == RunFolder().model
    return ModelChoice(f"{f'the model in {path.parent}/' if within else path}, not registered here", file=path)


def _champion(record: Record) -> ModelChoice:
    if record.champion is None:
        raise UserError(
            f"{record.model} has no champion", f"promote a version (`make promote`), or give --model: {FORMS}"
        )
    return _version(record, record.champion)


def _version(record: Record, version: str) -> ModelChoice:
    if version not in record.versions:
        numbers = ", ".join(record.versions) or "none"
        raise UserError(f"{record.model} has no version {version}", f"its versions: {numbers}")
    return ModelChoice(record.line(version), record.model, version, record.versions[version].sha256)


def _address(named: str) -> ModelChoice:
    """Return the model that models:/NAME@ALIAS or models:/NAME/VERSION names in MLflow now."""
    match = re.fullmatch(r"models:/([^/@]+)(?:@([^/@]+)|/(\d+))", named)
    if not match:
        raise UserError(f"{named} names no registered version", "write models:/NAME@champion or models:/NAME/3")
    from adaptformer.registry import versions
    from adaptformer.tracking import mlflow_store

    name, alias, version = match.groups()
    with mlflow_store.user_errors(_WITHOUT_IT):
        client = mlflow_store.connect()
        versions.require_model(client, name)
        if alias and (version := versions.alias(client, name, alias)) is None:
            raise UserError(f"{name} has no alias {alias}", "`adaptformer history` shows its versions")
        return _version(local_record.remember(client, name), version)


def _wanted_record(*, ask: bool) -> Record:
    name = _registered_name()
    record = None if name is None else _record(name, ask=ask)
    if record is None:
        raise UserError(
            "there is no registry here" if name else "there is no params.yaml here, so the registered model is unknown",
            "train and register a model (`make run`), or give --model a file",
        )
    return record


def _record(name: str, *, ask: bool) -> Record | None:
    """Return the record of a model; ask MLflow if there is no record, and return None if there is no registry to ask.

    A record without a champion is not trusted on a server that others use: it may have a first champion by now.
    """
    known = None if ask else local_record.read(name)
    if known is not None and (known.champion is not None or database() is not None):
        return known
    file = database()
    if find_spec("mlflow") is None or not (
        os.environ.get("MLFLOW_TRACKING_URI", "").strip() if file is None else file.is_file()
    ):
        return None
    from adaptformer.tracking import mlflow_store

    with mlflow_store.user_errors(_WITHOUT_IT):
        return local_record.remember(mlflow_store.connect(), name)


def _registered_name() -> str | None:
    if not PARAMS.is_file():
        return None
    from adaptformer.config import params  # a model's file needs none of its packages

    return params.load().registry.model
