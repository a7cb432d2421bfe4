from __future__ import annotations

import itertools
import json
import random
from pathlib import Path

import pandas as pd
import pytest
from many_photos import IMAGES

from adaptformer.base import files
from adaptformer.base.errors import UserError
from adaptformer.batch_prediction import inputs
from adaptformer.batch_prediction.job import Job, prepare
from adaptformer.data import storage


def listed(job: Job) -> list[list[str]]:
    return [pd.read_parquet(job.input(shard))["path"].tolist() for shard in range(job.shards)]


def test_images_are_dealt_out_to_shards_in_order(photos: Path, model: Path, tmp_path: Path) -> None:
    job = prepare(str(tmp_path / "job"), [str(photos)], model, top=2, shard_size=4)
    assert (job.images, job.shards, job.top) == (IMAGES, 3, 2)
    assert job.model == files.sha256_file(model)
    shards = listed(job)
    assert [len(shard) for shard in shards] == [4, 4, 3]
    assert list(itertools.chain.from_iterable(shards)) == [str(path) for path in sorted(photos.rglob("*.png"))]
    assert (tmp_path / "job/model.onnx").read_bytes() == model.read_bytes()


def test_a_job_that_is_there_keeps_its_list(photos: Path, model: Path, tmp_path: Path) -> None:
    given = (str(tmp_path / "job"), [str(photos)], model, 3, 4)
    job = prepare(*given)
    (photos / "a/00.png").unlink()
    assert prepare(*given) == job
    assert sum(map(len, listed(job))) == IMAGES


@pytest.mark.parametrize("changed", ["model", "top", "shard_size", "sources"])
def test_another_job_in_the_same_folder_is_refused(changed: str, photos: Path, model: Path, tmp_path: Path) -> None:
    given = {"sources": [str(photos)], "model": model, "top": 3, "shard_size": 4}
    prepare(str(tmp_path / "job"), **given)  # type: ignore[arg-type]
    other = {"sources": [str(photos / "a")], "model": tmp_path / "other.onnx", "top": 2, "shard_size": 5}
    (tmp_path / "other.onnx").write_bytes(b"other")
    with pytest.raises(UserError, match=f"predictions of another job, with other {changed}\n"):
        prepare(str(tmp_path / "job"), **{**given, changed: other[changed]})  # type: ignore[arg-type]


def test_an_interrupted_preparation_is_done_again(
    photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(tmp_path / "job")
    write = storage.write

    def killed(location: str, content: bytes) -> None:
        if location.endswith("job.json"):
            raise KeyboardInterrupt
        write(location, content)

    with monkeypatch.context() as patch:
        patch.setattr(storage, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare(folder, [str(photos)], model, 3, 4)
    assert prepare(folder, [str(photos)], model, 3, 4).images == IMAGES


def test_a_folder_with_other_files_is_refused(photos: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds other files, such as .*notes\.txt"):
        prepare(str(tmp_path / "mine"), [str(photos)], model, 3, 4)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_what_the_job_writes_is_no_image_of_it(photos: Path, model: Path) -> None:
    assert prepare(str(photos / "out"), [str(photos)], model, 3, 4).images == IMAGES


def test_lists_name_images(photos: Path, model: Path, tmp_path: Path) -> None:
    names = ["a/02.png", "b/01.png"]
    frame = pd.DataFrame({"label": ["x", "y"], "path": names})
    frame.to_csv(photos / "list.csv", index=False)
    frame.to_parquet(photos / "list.parquet")
    wanted = [str(photos / name) for name in names]
    for name in ("list.csv", "list.parquet"):
        assert list(inputs.locations([str(photos / name)])) == wanted
    single = str(photos / "a/04.png")
    assert list(inputs.locations([single, str(photos / "list.csv")])) == [single, *wanted]


def test_sources_without_images_are_refused(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (photos / "list.csv").write_text("file,label\na.png,x\n")
    pd.DataFrame({"file": ["a.png"]}).to_parquet(photos / "list.parquet")
    for source, cause in (
        (tmp_path / "empty", "has no images"),
        (tmp_path / "nowhere", "has no images"),
        (tmp_path / "none.csv", "does not exist"),
        (photos / "list.csv", "has no column `path`, but file, label"),
        (photos / "list.parquet", "has no column `path`, but file"),
    ):
        with pytest.raises(UserError, match=cause):
            list(inputs.locations([str(source)]))


def test_the_description_is_the_last_file(photos: Path, model: Path, tmp_path: Path) -> None:
    job = prepare(str(tmp_path / "job"), [str(photos)], model, 3, 4)
    described = json.loads((tmp_path / "job/job.json").read_text())
    assert described["inputs"] == job.inputs
    assert described["sources"] == [str(photos)]


def test_no_turned_bit_of_a_description_or_a_list_begins_another_job(photos: Path, model: Path, tmp_path: Path) -> None:
    given = (str(tmp_path / "job"), [str(photos)], model, 3, 4)
    job, dice = prepare(*given), random.Random(0)
    for name in (job.file("job.json"), job.input(1)):
        path = Path(name)
        content = path.read_bytes()
        for _ in range(60):
            changed = bytearray(content)
            changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
            path.write_bytes(changed)
            with pytest.raises(UserError) as caught:
                prepare(*given)
            assert str(caught.value).count("\n") == 1
            assert "remove" not in caught.value.remedy
        path.write_bytes(content)
    assert prepare(*given) == job


def test_a_description_of_before_has_no_checksum(photos: Path, model: Path, tmp_path: Path) -> None:
    given = (str(tmp_path / "job"), [str(photos)], model, 3, 4)
    job = prepare(*given)
    described = json.loads((tmp_path / "job/job.json").read_text())
    del described["checksum"]
    (tmp_path / "job/job.json").write_text(json.dumps(described))
    assert prepare(*given) == job
