"""Versions of a registered model: registration of a run's ONNX file, and lookup of versions and their files."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from adaptformer.base import files
from adaptformer.base.errors import UserError
from adaptformer.config.run_folder import RunFolder
from adaptformer.prediction import model_file
from adaptformer.registry import alias_journal, local_record, result_check
from adaptformer.tracking import mlflow_errors, mlflow_store, run_files
from adaptformer.tracking.locations import place, tracking_place

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models import ModelSignature

SERVED = Path(__file__).with_name("pyfunc_model.py")
"""The program that MLflow runs to load a version."""


@dataclass(frozen=True)
class Registration:
    """The version that a model file is registered as, as `registration.json` holds it.

    `judged` is whether a run in this folder has already asked the gate to judge it.
    """

    model: str
    version: str
    model_sha256: str
    tracking_uri: str
    run_id: str
    judged: bool = False


def is_due(registration: Registration | None, promotion: str) -> bool:
    """Return whether the gate still has to judge a registered model; with `promotion` "auto" it judges each one."""
    return promotion == "auto" and registration is not None and not registration.judged


def mark_judged(folder: RunFolder, registration: Registration) -> None:
    """Record that the gate has judged a version; if the run is killed before this, the version is judged again."""
    files.write_json(folder.registration, asdict(registration) | {"judged": True})


def present(folder: RunFolder, model: str) -> Registration | None:
    """Return the registration of the folder's model file as a version of `model` at the present tracking address.

    Return None if there is none. Read one small file and hash the model with its weights; do not import MLflow.
    """
    try:
        registration = Registration(**json.loads(folder.registration.read_text()))
        registration = replace(registration, tracking_uri=place(registration.tracking_uri))
        expected = replace(
            registration, model=model, model_sha256=model_file.sha256(folder.model), tracking_uri=tracking_place()
        )
    except (OSError, ValueError, TypeError):
        return None
    return registration if registration == expected else None


def register(folder: RunFolder, name: str, run_id: str | None, lineage: Mapping[str, str]) -> Registration:
    """Make the folder's ONNX file the `challenger` of the registered model `name`, and write `registration.json`.

    A file that is registered already keeps its version, and a champion does not become challenger. Raises UserError
    if the folder's results do not belong to its model (result_check.py), or if the registry does not answer; all stages
    are recorded by then, so nothing is lost.
    """
    result_check.require(folder)
    try:
        client = mlflow_store.connect()
        sha256 = model_file.sha256(folder.model)
        version = _version_of(client, name, sha256) or _new_version(client, folder, name, run_id, lineage)
        number = str(version.version)
        if number not in {alias(client, name, "challenger"), alias(client, name, "champion")}:
            client.set_registered_model_alias(name, "challenger", number)
        local_record.remember(client, name)
    except UserError:
        raise
    except Exception as error:  # whatever MLflow, its database or the network raise
        if (explained := mlflow_errors.explained(error, "only the registration is left")) is None:
            raise
        raise UserError(f"the model is exported but not registered: {explained.cause}", explained.remedy) from error
    registration = Registration(name, number, sha256, tracking_place(), version.run_id or "")
    files.write_json(folder.registration, asdict(registration))
    return registration


def alias(client: MlflowClient, name: str, which: str) -> str | None:
    """Return the version that an alias names, None if there is no such alias."""
    number = client.get_registered_model(name).aliases.get(which)
    return None if number is None else str(number)


def reason_not_to_judge(registration: Registration) -> str | None:
    """Return why the gate does not judge a version, "" for the champion; None if the gate has to judge it."""
    with mlflow_store.user_errors("the model is registered"):
        client = mlflow_store.connect()
        if alias(client, registration.model, "champion") == registration.version:
            return ""
        withdrawn = alias_journal.withdrawn(alias_journal.read(client, registration.model), registration.version)
    if withdrawn is None:
        return None
    return f"Version {registration.version} is not judged again: {withdrawn.who} took it out of use ({withdrawn.why})."


def require_model(client: MlflowClient, name: str) -> None:
    """Raise UserError unless there is a registered model of that name."""
    if not client.search_registered_models(f"name = {mlflow_store.quoted(name)}"):
        raise UserError(
            f"no model {name} is registered at {tracking_place()}",
            "train and register one (`make run`), or correct registry.model in params.yaml",
        )


def require_version(client: MlflowClient, name: str, version: str) -> None:
    """Raise UserError unless there is such a version."""
    there = [str(known.version) for known in mlflow_store.versions_of(client, name)]
    if version not in there:
        raise UserError(f"{name} has no version {version}", f"its versions: {', '.join(there) or 'none'}")


def artifact(client: MlflowClient, run_id: str | None, path: str, into: Path) -> Path | None:
    """Return a file of an MLflow run, downloaded into a folder of the run below `into`; None if there is none."""
    if not run_id or path not in {file.path for file in client.list_artifacts(run_id)}:
        return None
    folder = into / run_id
    folder.mkdir(parents=True, exist_ok=True)
    return Path(client.download_artifacts(run_id, path, str(folder)))


def evidence(client: MlflowClient, version: ModelVersion, name: str, into: Path) -> Path | None:
    """Return a file of a version's run by its attribute of RunFolder, as `artifact` does.

    Raises UserError if the file is not the registered one. Versions from earlier releases have no hash to check.
    """
    path = getattr(RunFolder(), name).name
    file = artifact(client, version.run_id, path, into)
    recorded = version.tags.get(f"{name}.sha256")
    if recorded is not None and (file is None or files.sha256_file(file) != recorded):
        fault = "is gone from its MLflow run" if file is None else "is not the file that was registered"
        raise UserError(
            f"{path} of {version.name} version {version.version} {fault}",
            f"bring back the file whose sha256 is {recorded} into run {version.run_id}, or choose another version",
        )
    return file


def fetch_model(client: MlflowClient, name: str, version: str, into: Path) -> Path:
    """Return the ONNX file of a version, downloaded with its weights into a folder of its own below `into`.

    Raises UserError if the version has no ONNX file, or if the files are not the registered ones.
    """
    import mlflow

    folder = into / f"{name}-{version}"
    folder.mkdir(parents=True, exist_ok=True)
    downloaded = Path(mlflow.artifacts.download_artifacts(f"models:/{name}/{version}", dst_path=str(folder)))
    model_files = sorted(downloaded.rglob("*.onnx"))
    if not model_files:
        raise UserError(f"{name} version {version} holds no ONNX file", "choose a version that this project registered")
    recorded = client.get_model_version(name, version).tags.get(run_files.MODEL_TAG)
    if recorded is not None and model_file.sha256(model_files[0]) != recorded:
        raise UserError(
            f"the ONNX file of {name} version {version} is not the one that was registered",
            f"bring back the file whose sha256 is {recorded} into MLflow's files, or choose another version",
        )
    return model_files[0]


def _version_of(client: MlflowClient, name: str, sha256: str) -> ModelVersion | None:
    """Return the version that holds exactly these bytes, or None."""
    filters = f"name = {mlflow_store.quoted(name)} and tag.`{run_files.MODEL_TAG}` = '{sha256}'"
    return next(iter(client.search_model_versions(filters, 1, ["version_number ASC"])), None)


def _new_version(
    client: MlflowClient, folder: RunFolder, name: str, run_id: str | None, lineage: Mapping[str, str]
) -> ModelVersion:
    import mlflow

    if run_id is None:
        raise UserError(
            "the model is exported but not registered, because tracking failed",
            f"follow the warning above about MLflow at {tracking_place()}, then run the same command again",
        )
    with mlflow.start_run(run_id=run_id), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the missing input example: as JSON it would be larger than the model's
        logged = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(SERVED),
            artifacts={"model": str(folder.model)},
            signature=_signature(folder.model),
            pip_requirements=_requirements(),
        )
    if folder.model_weights.is_file() and folder.model_weights.stat().st_size:
        # The weights belong beside the ONNX file, which names them; as one of `artifacts` MLflow would copy them twice.
        client.log_model_artifact(logged.model_id, str(folder.model_weights), "artifacts")
    if not client.search_registered_models(f"name = {mlflow_store.quoted(name)}"):
        client.create_registered_model(name)
    # The version gets its tags in the same transaction: a version without its hash would be registered again.
    tags = {**lineage, **run_files.lineage(folder)}
    return client.create_model_version(name, logged.model_uri, run_id, tags, model_id=logged.model_id)


def _requirements() -> list[str]:
    """Return the packages that a version's program needs besides MLflow, without those of CUDA."""
    import numpy as np
    import onnxruntime

    return [f"onnxruntime=={onnxruntime.__version__}", f"numpy=={np.__version__}"]


def _signature(model: Path) -> ModelSignature:
    """Return names, types and shapes of a version's outputs.

    It has no part for the input: with one, MLflow would cast 0.5 to 0, and put the pixels into its error messages.
    """
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    from adaptformer.prediction.predictor import Predictor

    classes = len(Predictor(model, device="cpu").classes)
    text, number, logit = np.dtype("str"), np.dtype(np.float64), np.dtype(np.float32)
    outputs: list[ColSpec | TensorSpec] = [
        TensorSpec(text, (-1,), "class"),
        TensorSpec(number, (-1,), "probability"),
        TensorSpec(number, (-1, classes), "probabilities"),
        TensorSpec(text, (classes,), "classes"),
        TensorSpec(logit, (-1, classes), "logits"),
    ]
    return ModelSignature(outputs=Schema(outputs))
