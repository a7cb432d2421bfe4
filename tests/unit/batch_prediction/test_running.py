"""Whole jobs by each engine, whose processes are killed at random moments."""

from __future__ import annotations

import functools
import json
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
from filelock import FileLock
from many_photos import IMAGES, dying, refusing, slow
from small_project import adaptformer

from adaptformer.base import files
from adaptformer.base.errors import UserError
from adaptformer.batch_prediction import running
from adaptformer.batch_prediction.job import Job, prepare
from adaptformer.sharding import engines
from adaptformer.sharding.engines import Engine

CLUSTERS = tuple(pytest.param(name, marks=pytest.mark.e2e) for name in ("dask", "ray"))
NAMES = ("local", *CLUSTERS)


@pytest.fixture(autouse=True)
def workers_find_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's processes import `many_photos` by themselves."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))


@pytest.fixture
def job(photos: Path, model: Path, tmp_path: Path) -> Job:
    return prepare(str(tmp_path / "job"), [str(photos)], model, top=2, shard_size=3)


@pytest.fixture(scope="module")
def by_engine() -> dict[str, dict[str, bytes]]:
    return {}


@pytest.mark.parametrize("engine", NAMES)
def test_every_engine_writes_the_same_bytes(engine: str, job: Job, by_engine: dict[str, dict[str, bytes]]) -> None:
    summary = running.run(job, Engine(engine, workers=2), "cpu")
    assert (summary.images, summary.faults, summary.computed, summary.workers) == (IMAGES, 1, IMAGES, 2)
    assert engine != "ray" or os.environ["RAY_USAGE_STATS_ENABLED"] == "0"  # which is on unless it is switched off
    tables = [pd.read_parquet(job.output(number)) for number in range(job.shards)]
    assert pd.concat(tables)["path"].is_unique
    manifest = pd.read_csv(job.file("manifest.csv"))
    assert manifest["shard"].tolist() == list(range(job.shards))
    assert manifest["images"].sum() == IMAGES
    for row in manifest.itertuples():
        assert row.output == files.sha256_file(Path(job.output(row.shard)))
        assert row.input == files.sha256_file(Path(job.input(row.shard)))
    timing = json.loads(Path(job.file("timing.json")).read_text())
    assert (timing["engine"], timing["workers"], timing["images"]) == (engine, 2, IMAGES)
    # Paths differ from test to test, the rest does not.
    by_engine[engine] = {f"{i}": table.drop(columns="path").to_csv().encode() for i, table in enumerate(tables)}
    assert by_engine[engine] == next(iter(by_engine.values()))


def test_a_gpu_has_one_process_and_a_cpu_one_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running.thread_map, "cores", lambda: 6)
    monkeypatch.setattr(Path, "glob", lambda *_: iter([Path("/dev/nvidia0")]))
    assert (running.usual_processes("auto"), running.usual_processes("cpu")) == (1, 6)
    monkeypatch.setattr(Path, "glob", lambda *_: iter([]))
    assert running.usual_processes("auto") == 6


def test_a_second_run_computes_nothing(job: Job) -> None:
    running.run(job, Engine(workers=1), "cpu")
    timing, manifest = (Path(job.file(name)).read_bytes() for name in ("timing.json", "manifest.csv"))
    summary = running.run(job, Engine(workers=1), "cpu")
    assert (summary.computed, summary.images) == (0, IMAGES)
    assert summary.lines()[-1] == "all were there already"
    assert Path(job.file("timing.json")).read_bytes() == timing
    assert Path(job.file("manifest.csv")).read_bytes() == manifest


@pytest.mark.parametrize("engine", NAMES)
def test_killed_processes_cost_no_image_and_double_none(engine: str, job: Job) -> None:
    work, killed = functools.partial(slow, job), []
    dice = random.Random(0)

    def kill() -> None:
        """Kill two processes, each in the middle of a shard."""
        seen: set[str] = set()
        while len(killed) < 2:
            time.sleep(dice.uniform(0.05, 0.3))
            for note in set(map(str, Path(job.folder).glob(".begun-*"))) - seen:
                seen.add(note)
                pid = int(note.rpartition("-")[2])
                if pid != os.getpid() and len(killed) < 2 and psutil.pid_exists(pid) and pid not in killed:
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
                    break

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    outcomes = list(engines.ENGINES[engine](work, range(job.shards), 2, None))
    thread.join(60)
    assert len(killed) == 2
    assert {outcome.shard for outcome in outcomes} == set(range(job.shards))
    paths = pd.concat([pd.read_parquet(job.output(number)) for number in range(job.shards)])["path"]
    assert sorted(paths) == sorted(
        path for number in range(job.shards) for path in pd.read_parquet(job.input(number))["path"]
    )
    leftovers = [path for path in Path(job.folder, "predictions").iterdir() if path.suffix != ".parquet"]
    assert not leftovers


def test_a_folder_has_one_command_at_a_time(job: Job, photos: Path, model: Path) -> None:
    given = {"top": 2, "shard_size": 3, "device": "cpu"}
    with (
        FileLock(Path(job.folder) / ".lock"),
        pytest.raises(UserError, match="is in use by another command"),
    ):
        running.predict(job.folder, [str(photos)], model, Engine(workers=1), **given)  # type: ignore[arg-type]
    leftover = Path(job.folder, "predictions/.00000001.other-1.partial.parquet")
    leftover.parent.mkdir()
    leftover.write_bytes(b"half")
    running.predict(job.folder, [str(photos)], model, Engine(workers=1), **given)  # type: ignore[arg-type]
    assert not leftover.exists()


@pytest.mark.parametrize("engine", NAMES[:2])
def test_processes_that_always_die_end_the_job(engine: str) -> None:
    with pytest.raises(UserError, match="died 4 times, perhaps because memory ran out"):
        list(engines.ENGINES[engine](dying, range(3), 2, None))


@pytest.mark.parametrize("engine", NAMES)
def test_a_users_error_of_a_shard_arrives_as_it_is(engine: str) -> None:
    with pytest.raises(UserError, match="shard 0 is bad") as caught:
        list(engines.ENGINES[engine](refusing, [0], 1, None))
    assert caught.value.remedy == "mend it"


def test_lists_that_have_changed_end_the_job(job: Job) -> None:
    table = pd.read_parquet(job.input(1))
    table.iloc[:1].to_parquet(job.input(1))
    with pytest.raises(UserError, match=r"the lists in .*/inputs/ are not those"):
        running.run(job, Engine(workers=1), "cpu")
    assert not Path(job.file("manifest.csv")).exists()


def test_a_damaged_shard_and_a_damaged_manifest_are_made_as_they_were_with_a_line(
    job: Job, caplog: pytest.LogCaptureFixture
) -> None:
    running.run(job, Engine(workers=1), "cpu")
    before = {path: path.read_bytes() for path in Path(job.folder).rglob("*.*") if path.name != "timing.json"}
    for name in (job.output(2), job.file("manifest.csv")):
        content = bytearray(Path(name).read_bytes())
        content[len(content) // 2] ^= 1
        Path(name).write_bytes(content)
    summary = running.run(job, Engine(workers=1), "cpu")
    assert summary.computed == 3
    assert {path: path.read_bytes() for path in before} == before
    told = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert told == [
        "shard 2 was damaged: it was computed again, with the same result",
        f"{job.file('manifest.csv')} was altered: it is written again",
    ]


def test_folders_without_one_image_are_an_error(model: Path, tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.txt").write_text("no image")
    job = prepare(str(tmp_path / "job"), [str(tmp_path / "texts")], model, 1, 10)
    with pytest.raises(UserError, match="none of the files is an image"):
        running.run(job, Engine(workers=1), "cpu")


def test_predict_into_a_folder_prints_numbers_of_images_and_seconds(
    photos: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("predict", str(photos), "--model", str(model), "--device", "cpu", "--output", str(tmp_path / "out"))
    assert adaptformer(*words, "--workers", "1", "--shard-size", "6", "--top-k", "1") == 0
    printed = capsys.readouterr().out
    assert f"{IMAGES} images are in {tmp_path / 'out'}/predictions/, 1 of them without an answer" in printed
    assert "seconds of a process for a million images: read " in printed
    assert len(list((tmp_path / "out/predictions").iterdir())) == 2
    assert list(pd.read_parquet(tmp_path / "out/predictions")) == ["path", "fault", "class1", "probability1"]


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        (("--output", "out", "--csv"), "--csv does nothing with --output"),
        (("--engine", "dask"), "--engine does nothing without --output"),
        (("--shard-size", "5"), "--shard-size does nothing without --output"),
        (("--output", "out", "--address", "tcp://a:1"), "--address is that of a Dask or Ray cluster"),
    ],
)
def test_options_that_would_do_nothing_are_refused(
    options: tuple[str, ...], cause: str, photos: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert adaptformer("predict", str(photos), "--model", str(model), *options) == 1
    assert cause in capsys.readouterr().err
