from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from adaptformer.base import files
from adaptformer.base.errors import UserError
from adaptformer.batch_prediction import shard
from adaptformer.batch_prediction.job import Job, prepare
from adaptformer.batch_prediction.shard import PARTS, WorkerOptions
from adaptformer.data import storage
from adaptformer.prediction.predictor import Predictor

CPU = WorkerOptions("cpu", 1)


def flipped(content: bytes, dice: random.Random) -> bytes:
    """The same bytes but for one bit."""
    changed = bytearray(content)
    changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
    return bytes(changed)


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
    assert shard.predict(job, WorkerOptions("cpu", 3), 0).output == one


def test_more_classes_than_there_are_give_all(photos: Path, model: Path, tmp_path: Path) -> None:
    job = prepare(str(tmp_path / "all"), [str(photos)], model, top=99, shard_size=100)
    shard.predict(job, CPU, 0)
    assert list(pd.read_parquet(job.output(0)))[-1] == "probability3"


def test_predictions_that_are_there_are_not_computed_again(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    first = shard.predict(job, CPU, 1)
    monkeypatch.setattr(shard, "parquet", None)
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


def test_no_turned_bit_of_a_result_stays_or_is_recorded(job: Job) -> None:
    first = shard.predict(job, CPU, 1)
    path, dice = Path(job.output(1)), random.Random(0)
    content, record = path.read_bytes(), Path(job.record(1)).read_bytes()
    for _ in range(40):
        path.write_bytes(flipped(content, dice))
        again = shard.predict(job, CPU, 1)
        assert (again.again, again.output) == ("was damaged", first.output)
        assert (path.read_bytes(), Path(job.record(1)).read_bytes()) == (content, record)
    path.write_bytes(content[:100])
    assert shard.predict(job, CPU, 1).again == "was damaged"
    assert path.read_bytes() == content


def test_no_turned_bit_of_a_record_changes_a_result(job: Job) -> None:
    first = shard.predict(job, CPU, 1)
    path, dice = Path(job.record(1)), random.Random(0)
    content, output = path.read_bytes(), Path(job.output(1)).read_bytes()
    for _ in range(40):
        path.write_bytes(flipped(content, dice))
        again = shard.predict(job, CPU, 1)
        assert (again.again, again.output) == ("could not be verified", first.output)
        assert (path.read_bytes(), Path(job.output(1)).read_bytes()) == (content, output)


def test_a_damaged_result_whose_images_have_changed_is_refused_and_stays(job: Job) -> None:
    shard.predict(job, CPU, 1)
    Path(pd.read_parquet(job.input(1))["path"][0]).unlink()
    path = Path(job.output(1))
    damaged = flipped(path.read_bytes(), random.Random(1))
    path.write_bytes(damaged)
    with pytest.raises(
        UserError, match=r"00000001\.parquet is damaged, and its images now have other predictions"
    ) as caught:
        shard.predict(job, CPU, 1)
    assert path.read_bytes() == damaged
    assert "remove" not in caught.value.remedy


def test_a_finished_job_of_before_is_verified_by_its_manifest(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    first = shard.predict(job, CPU, 1)
    Path(job.record(1)).unlink()
    Path(job.file("manifest.csv")).write_text(f"shard,images,faults,input,output\n1,4,0,x,{first.output}\n")
    shard._in_manifest.cache_clear()
    computed = shard.parquet
    monkeypatch.setattr(shard, "parquet", None)
    assert shard.predict(job, CPU, 1) == dataclasses.replace(first, seconds={})
    monkeypatch.setattr(shard, "parquet", computed)
    content = Path(job.output(1)).read_bytes()
    Path(job.output(1)).write_bytes(flipped(content, random.Random(0)))
    assert shard.predict(job, CPU, 1).again == "was damaged"
    assert Path(job.output(1)).read_bytes() == content


def test_an_image_without_finite_numbers_has_a_fault(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    true = Predictor.logits

    def broken(self: Predictor, images: Any) -> Any:
        logits = true(self, images)
        logits[0] = np.nan
        return logits

    monkeypatch.setattr(Predictor, "logits", broken)
    assert shard.predict(job, CPU, 1).faults == 1
    table = pd.read_parquet(job.output(1))
    assert table["fault"][0] == "the model's answer is no number"
    assert pd.isna(table["class1"][0])
    assert pd.isna(table["probability1"][0])
    assert not table["class1"][1:].isna().any()


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

    def counted(*given: Any, **named: Any) -> Predictor:
        opened.append(given)
        return Predictor(*given, **named)

    monkeypatch.setattr(shard, "Predictor", counted)
    options = WorkerOptions("cpu", 2)
    shard.predict(job, options, 0)
    shard.predict(job, options, 1)
    assert opened == [(Path(job.folder) / "model.onnx", "cpu", 2)]


def test_names_that_are_no_utf_8_are_found_and_written_as_escapes(photos: Path, model: Path, tmp_path: Path) -> None:
    found = sorted((photos / "b").glob("*.png"))[0]
    found.rename(found.with_name("odd\udcff.png"))
    job = prepare(str(tmp_path / "odd"), [str(photos / "b")], model, top=1, shard_size=100)
    assert shard.predict(job, CPU, 0).faults == 0
    paths = pd.read_parquet(job.output(0))["path"]
    assert [path for path in paths if "odd" in path] == [str(photos / "b/odd") + "\\udcff.png"]
