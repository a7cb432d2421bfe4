"""Images, lists and jobs in a bucket, on a local server that speaks S3."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import boto3
import fsspec
import pandas as pd
import pytest
from many_photos import IMAGES
from moto.server import ThreadedMotoServer

from adaptformer.base.errors import UserError
from adaptformer.batch_prediction import running
from adaptformer.batch_prediction.job import prepare
from adaptformer.data import storage
from adaptformer.sharding.engines import Engine


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    running_server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running_server.start()
    host, port = running_server.get_host_and_port()
    yield f"http://{host}:{port}"
    running_server.stop()


@pytest.fixture
def bucket(server: str, photos: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket with the pictures, as a user's environment names it: worker processes read the same variables."""
    for name, value in {
        "AWS_ENDPOINT_URL": server, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1", "NO_PROXY": "127.0.0.1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="pictures")
    for path in photos.rglob("*.png"):
        client.upload_file(str(path), "pictures", f"photos/{path.relative_to(photos).as_posix()}")
    yield "s3://pictures"
    fsspec.filesystem("s3").rm("pictures", recursive=True)


def test_a_bucket_is_predicted_into_a_bucket(bucket: str, photos: Path, model: Path, tmp_path: Path) -> None:
    job = prepare(f"{bucket}/out", [f"{bucket}/photos"], model, top=2, shard_size=4)
    assert (job.images, job.shards) == (IMAGES, 3)
    summary = running.run(job, Engine(workers=2), "cpu")
    assert (summary.images, summary.faults) == (IMAGES, 1)
    here = prepare(str(tmp_path / "here"), [str(photos)], model, top=2, shard_size=4)
    running.run(here, Engine(workers=1), "cpu")
    for shard in range(3):
        there = pd.read_parquet(io.BytesIO(storage.read(job.output(shard))))
        local = pd.read_parquet(here.output(shard))
        assert there["path"].str.removeprefix("s3://pictures").tolist() == [
            path.removeprefix(str(photos.parent)) for path in local["path"]
        ]
        pd.testing.assert_frame_equal(there.drop(columns="path"), local.drop(columns="path"))
    assert len(storage.read(f"{bucket}/out/manifest.csv").splitlines()) == 1 + job.shards
    assert (
        running.run(prepare(f"{bucket}/out", [f"{bucket}/photos"], model, 2, 4), Engine(workers=1), "cpu").computed == 0
    )


def test_a_list_in_a_bucket_names_its_images(bucket: str, model: Path, tmp_path: Path) -> None:
    storage.write(f"{bucket}/photos/list.csv", b"path\na/00.png\nb/01.png\nb/gone.png\n")
    job = prepare(str(tmp_path / "out"), [f"{bucket}/photos/list.csv"], model, top=1, shard_size=10)
    summary = running.run(job, Engine(workers=1), "cpu")
    assert (summary.images, summary.faults) == (3, 1)
    table = pd.read_parquet(job.output(0))
    assert table["path"].tolist()[0] == "s3://pictures/photos/a/00.png"
    assert pd.notna(table["fault"][2])


def test_a_bucket_that_does_not_exist_is_two_lines(bucket: str, model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"s3://nowhere/photos"):
        prepare(str(tmp_path / "out"), ["s3://nowhere/photos"], model, 1, 10)
    assert not (tmp_path / "out/job.json").exists()
