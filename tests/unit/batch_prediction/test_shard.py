from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from adaptformer import files, storage
from adaptformer.batch_prediction import shard
from adaptformer.batch_prediction.job import Job, prepare
from adaptformer.batch_prediction.shard import PARTS, Computing
from adaptformer.errors import UserError
from adaptformer.export.predictor import Predictor

CPU = Computing("cpu", 1)


@pytest.fixture
def job(photos: Path, model: Path, tmp_path: Path) -> Job:
    return prepare(str(tmp_path / "job"), [str(photos)], model, top=2, shard_size=7)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "SECONDS_BETWEEN_ATTEMPTS", 0.0)


def test_a_shard_has_what_the_predictor_says(job: Job, model: Path) -> None:
    outcome = shard.predict(job, CPU, 0)
    table = pd.read_parquet(job.output(0))
    assert list(table) == ["path", "fault", "class1", "probability1", "class2", "probability2"]
    paths = pd.read_parquet(job.input(0))["path"]
    assert table["path"].tolist() == paths.tolist()
    expected = list(Predictor(model, "cpu", 1).predict(map(Path, paths), top=2))
    assert sum(bool(prediction.fault) for prediction in expected) == 1
    for row, prediction in zip(table.itertuples(), expected, strict=True):
        if prediction.fault:
            assert row.fault == prediction.fault
            assert pd.isna(row.class1)
            assert pd.isna(row.probability2)
        else:
            assert pd.isna(row.fault)
            assert (row.class1, row.class2) == prediction.classes
            np.testing.assert_allclose((row.probability1, row.probability2), prediction.probabilities, rtol=1e-5)
    assert (outcome.shard, outcome.images, outcome.faults) == (0, 7, 1)
    assert outcome.input == files.sha256_file(Path(job.input(0)))
    assert outcome.output == files.sha256_file(Path(job.output(0)))
    assert outcome.seconds.keys() == {*PARTS, "total"}
    assert all(seconds > 0 for seconds in outcome.seconds.values())
    assert sum(outcome.seconds[part] for part in PARTS) <= outcome.seconds["total"]


def test_threads_change_no_byte(job: Job) -> None:
    one = shard.predict(job, CPU, 0).output
    Path(job.output(0)).unlink()
    assert shard.predict(job, Computing("cpu", 3), 0).output == one


def test_more_classes_than_there_are_give_all(photos: Path, model: Path, tmp_path: Path) -> None:
    job = prepare(str(tmp_path / "all"), [str(photos)], model, top=99, shard_size=100)
    shard.predict(job, CPU, 0)
    assert list(pd.read_parquet(job.output(0)))[-1] == "probability3"


def test_predictions_that_are_there_are_not_computed_again(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    first = shard.predict(job, CPU, 1)
    monkeypatch.setattr(shard, "_predicted", None)
    again = shard.predict(job, CPU, 1)
    assert again == dataclasses.replace(first, seconds={})


def test_predictions_of_another_model_are_no_result(job: Job) -> None:
    shard.predict(job, CPU, 1)
    with pytest.raises(UserError, match="does not belong to the job"):
        shard.predict(dataclasses.replace(job, model="another"), CPU, 1)


def test_another_model_in_the_folder_is_refused(job: Job) -> None:
    Path(job.file("model.onnx")).write_bytes(b"another")
    with pytest.raises(UserError, match="is not the model of the job"):
        shard.predict(job, CPU, 0)


def test_a_damaged_result_is_named(job: Job) -> None:
    shard.predict(job, CPU, 1)
    Path(job.output(1)).write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"cannot use .*00000001\.parquet"):
        shard.predict(job, CPU, 1)


def test_what_fails_for_a_moment_is_tried_again(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    read, failures = storage.read, iter([TimeoutError("slow"), ConnectionError("gone")])

    def unreliable(location: str) -> bytes:
        if location.endswith(".png") and (error := next(failures, None)):
            raise error
        return read(location)

    monkeypatch.setattr(storage, "read", unreliable)
    assert (
        shard.predict(job, CPU, 0).faults == 1
    )  # the damaged picture alone: no image is given up for a moment's fault


def test_what_fails_always_is_the_users_error(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def failing(location: str) -> bytes:
        tries.append(location)
        raise ConnectionError("no route")

    monkeypatch.setattr(storage, "read_image", failing)
    with pytest.raises(UserError, match="failed 3 times: ConnectionError: no route"):
        shard.predict(job, CPU, 0)
    assert len(tries) == storage.ATTEMPTS
    assert not Path(job.output(0)).exists()


def test_a_file_that_is_gone_has_a_fault(job: Job) -> None:
    gone = Path(pd.read_parquet(job.input(0))["path"][0])
    gone.unlink()
    assert shard.predict(job, CPU, 0).faults == 2
    assert pd.read_parquet(job.output(0))["fault"][0] == "No such file or directory"


def test_images_and_job_may_lie_in_a_store(photos: Path, model: Path, tmp_path: Path, job: Job) -> None:
    root = f"memory://{tmp_path.name}"
    for path in photos.rglob("*.png"):
        storage.write(f"{root}/photos/{path.relative_to(photos).as_posix()}", path.read_bytes())
    remote = prepare(f"{root}/job", [f"{root}/photos"], model, top=2, shard_size=100)
    assert shard.predict(remote, CPU, 0).faults == 1
    stored: Any = pd.read_parquet(storage_bytes(remote.output(0)))
    for number in range(job.shards):
        shard.predict(job, CPU, number)
    local = pd.concat([pd.read_parquet(job.output(number)) for number in range(job.shards)], ignore_index=True)
    assert set(stored["path"].str.rpartition("photos")[2]) == set(local["path"].str.rpartition("photos")[2])
    by_name = stored.assign(name=stored["path"].str[-8:]).sort_values("name").reset_index(drop=True)
    expected = local.assign(name=local["path"].str[-8:]).sort_values("name").reset_index(drop=True)
    assert by_name.drop(columns="path").equals(expected.drop(columns="path"))


def storage_bytes(location: str) -> Any:
    import io

    return io.BytesIO(storage.read(location))


def test_a_worker_opens_the_model_once(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []

    def counted(*given: Any) -> Predictor:
        opened.append(given)
        return Predictor(*given)

    monkeypatch.setattr(shard, "Predictor", counted)
    computing = Computing("cpu", 2)
    shard.predict(job, computing, 0)
    shard.predict(job, computing, 1)
    assert opened == [(Path(job.folder) / "model.onnx", "cpu", 2)]
