"""Whole checks: what is found in shards is what `validate` finds in a folder of the same images."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from many_scenes import jpeg, png, scene, tar
from PIL import Image, ImageOps
from small_project import adaptformer

from adaptformer.base import files, integrity
from adaptformer.base.errors import UserError
from adaptformer.config import params
from adaptformer.curation.checks import duplicate_verification, findings, ivf_index, near_duplicates
from adaptformer.curation.sharded_checks import checking, facts
from adaptformer.data import manifest
from adaptformer.sharding import engines
from adaptformer.sharding.engines import Engine

CLUSTERS = tuple(pytest.param(name, marks=pytest.mark.e2e) for name in ("dask", "ray"))
LEVELS = params.load(Path(__file__).resolve().parents[4] / "params.yaml").checks
ONE = Engine(workers=1)

SOUND = {
    f"{split}/{label}/{number}.png": png(scene(1000 * part + 100 * place + number))
    for part, (split, count) in enumerate((("train", 14), ("validation", 3), ("test", 4)))
    for place, label in enumerate(("cat", "dog"))
    for number in range(count)
}
FLAWED = {
    **SOUND,
    "test/cat/leak.jpg": jpeg(ImageOps.mirror(scene(3))),  # train/cat/3.png
    "train/dog/conflict.jpg": jpeg(scene(5)),  # train/cat/5.png
    "train/dog/repeat.png": SOUND["train/dog/2.png"],
    "train/cat/grey.png": png(Image.new("RGB", (40, 40), (9, 99, 9))),
    "train/cat/small.png": png(scene(7000, 12)),
    "train/bird/0.png": png(scene(8000)),
    "train/bird/1.png": png(scene(8001)),
}


def shards(root: Path, images: dict[str, bytes]) -> list[str]:
    """Write two tar files for each split."""
    members: dict[str, dict[str, bytes]] = {}
    for number, (path, content) in enumerate(images.items()):
        split, name = path.split("/", 1)
        members.setdefault(f"{split}-{number % 2}.tar", {})[name] = content
    return [str(tar(root / name, content)) for name, content in sorted(members.items())]


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "findings.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def plain(path: str) -> str:
    """Return SPLIT/CLASS/FILE of a path into a shard."""
    shard, _, name = path.partition(".tar/")
    return f"{shard.rpartition('/')[2].partition('-')[0]}/{name}" if name else path


def test_the_check_of_large_data_finds_what_validate_finds(tmp_path: Path) -> None:
    summary = checking.check(tmp_path / "check", shards(tmp_path / "s", FLAWED), ONE, LEVELS)
    data = tmp_path / "data"
    for name, content in FLAWED.items():
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_bytes(content)
    look = near_duplicates.Pictures()
    table, unreadable = manifest.scan(data, manifest.ValidationShare(0.2, 0, ""), look)
    assert unreadable.empty
    expected = findings.find(table, look.of(table["path"]), LEVELS)
    found = rows(tmp_path / "check")

    def pairs(listed: list[tuple[str, str, str]]) -> Counter[tuple[str, frozenset[str]]]:
        return Counter((kind, frozenset({path, other})) for kind, path, other in listed)

    here = pairs([(row["kind"], plain(row["path"]), plain(row["other"])) for row in found])
    there = pairs([(one.kind, one.path, one.other) for one in expected])
    assert here == there
    assert {"leaks", "label_conflicts", "duplicates", "constant", "small", "few_images", "missing_classes"} <= {
        kind for kind, _ in here
    }
    assert {row["level"] for row in found} == {"warn"}
    assert all(row["fix"] == findings.FIXES[row["kind"]] for row in found)
    assert summary.findings.counts == dict(Counter(row["kind"] for row in found))
    assert summary.splits == {"train": 34, "validation": 6, "test": 9}
    assert summary.lines()[0] == "49 images of 3 classes: train 34, validation 6, test 9"
    assert any(line.startswith("leaks: ") and line.endswith(findings.FIXES["leaks"]) for line in summary.lines())
    assert summary.lines()[-1] == f"{len(found)} findings: see {tmp_path / 'check/findings.csv'}"


def test_sound_images_have_no_findings(tmp_path: Path) -> None:
    summary = checking.check(tmp_path / "check", shards(tmp_path / "s", SOUND), ONE, LEVELS)
    assert summary.lines() == ["42 images of 2 classes: train 28, validation 6, test 8", "nothing was found"]
    assert not (tmp_path / "check/copies").exists()
    timing = json.loads((tmp_path / "check/timing.json").read_text())
    assert (timing["engine"], timing["workers"], timing["images"]) == ("local", 1, 42)
    assert timing["peak_memory_mb_of_a_process_examining"] > 20


def test_a_split_that_is_missing_as_a_whole_is_no_finding(tmp_path: Path) -> None:
    images = {name: content for name, content in FLAWED.items() if not name.startswith("validation")}
    checking.check(tmp_path / "check", shards(tmp_path / "s", images), ONE, LEVELS)
    missing = {row["path"] for row in rows(tmp_path / "check") if row["kind"] == "missing_classes"}
    assert missing == {"test/bird"}


def test_images_without_splits_lack_no_class(tmp_path: Path) -> None:
    photos = {name.split("/", 1)[1]: content for name, content in SOUND.items() if name.startswith("train")}
    photos["dog/text.png"] = b"no image"
    summary = checking.check(tmp_path / "check", [str(tar(tmp_path / "a.tar", photos))], ONE, LEVELS)
    assert summary.findings.counts == {"unreadable": 1}
    assert summary.lines()[0] == "28 images of 2 classes: no split 28"
    (row,) = rows(tmp_path / "check")
    assert row["path"] == f"{tmp_path}/a.tar/dog/text.png"
    assert row["detail"].startswith("not an image (")
    assert (row["level"], row["fix"]) == ("warn", "repair the file, or move it away")


@pytest.mark.parametrize("engine", ["local", *CLUSTERS])
def test_whatever_was_interrupted_it_ends_with_the_same_files(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = shards(tmp_path / "s", FLAWED)
    monkeypatch.setattr(ivf_index, "BLOCK", 20)
    monkeypatch.setattr(near_duplicates, "PAIRS", 1)
    names = ("facts/*", "findings.csv", "near_duplicates.parquet", "check.json")

    def written(folder: Path) -> dict[str, bytes]:
        found = [path for name in names for path in sorted(folder.glob(name))]
        return {str(path.relative_to(folder)): path.read_bytes() for path in found}

    checking.check(tmp_path / "undisturbed", given, ONE, LEVELS)
    folder = tmp_path / "check"
    moments = (
        (facts, "examine", 2), (ivf_index, "candidates", 2), (duplicate_verification, "agreements", 1),
        (findings, "write", 0),
    )  # fmt: skip
    for module, name, after in moments:
        done, kept = [0], getattr(module, name)

        def interrupted(*words: object, done: list[int] = done, kept: object = kept, after: int = after) -> object:
            if done[0] == after:
                raise KeyboardInterrupt
            done[0] += 1
            return kept(*words)  # type: ignore[operator]

        with monkeypatch.context() as patch:
            patch.setattr(module, name, interrupted)
            patch.setitem(engines.ENGINES, "local", lambda work, parts, *_: map(work, parts))
            with pytest.raises(KeyboardInterrupt):
                checking.check(folder, given, ONE, LEVELS)
        assert not (folder / "findings.csv").exists()
    assert (folder / "near_duplicates.parquet").is_file()
    (folder / "facts/.00000001.other-1.partial.parquet").write_bytes(b"half")
    checking.check(folder, given, Engine(engine, workers=2), LEVELS)
    assert not list(folder.rglob(".*.partial*"))
    assert written(folder) == written(tmp_path / "undisturbed")
    monkeypatch.setattr(ivf_index, "candidates", None)  # nothing is compared again
    checking.check(folder, given, ONE, LEVELS)
    assert written(folder) == written(tmp_path / "undisturbed")


def test_near_duplicates_that_were_altered_or_are_of_other_facts_are_searched_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given, folder = shards(tmp_path / "s", FLAWED), tmp_path / "check"
    checking.check(folder, given, ONE, LEVELS)
    path = folder / "near_duplicates.parquet"
    whole = path.read_bytes()
    assert len(pd.read_parquet(path)) > 0
    pq.write_table(pq.read_table(path)[:0], path)  # with the same metadata
    checking.check(folder, given, ONE, LEVELS)
    assert path.read_bytes() == whole
    assert "it is computed again" in caplog.text
    other = pq.read_table(path)[:0].replace_schema_metadata({"adaptformer": '{"facts":"others"}'})
    pq.write_table(other, path)
    integrity.write_beside(path)
    checking.check(folder, given, ONE, LEVELS)
    assert path.read_bytes() == whole


def test_levels_are_params_yamls(tmp_path: Path) -> None:
    given, folder = shards(tmp_path / "s", FLAWED), tmp_path / "check"
    off = LEVELS.model_copy(update=dict.fromkeys(("leaks", "label_conflicts", "duplicates"), "none"))
    summary = checking.check(folder, given, ONE, off)
    assert summary.findings.counts.keys() == {"constant", "small", "few_images", "missing_classes"}
    assert not (folder / "near_duplicates.parquet").exists()  # nobody asked
    strict = LEVELS.model_copy(update={"leaks": "error"})
    with pytest.raises(UserError, match=r"level is error: leaks: .*seems to show the same photo as"):
        checking.check(folder, given, ONE, strict)
    assert {row["level"] for row in rows(folder) if row["kind"] == "leaks"} == {"error"}


def test_paths_of_many_pairs_are_found_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = shards(tmp_path / "s", FLAWED)
    checking.check(tmp_path / "whole", given, ONE, LEVELS)
    monkeypatch.setattr(checking, "_PAIRS_AT_ONCE", 1)
    monkeypatch.setattr(facts, "AT_ONCE", 4)
    checking.check(tmp_path / "pieces", given, ONE, LEVELS)
    assert rows(tmp_path / "pieces") == rows(tmp_path / "whole")


def test_lists_that_have_changed_end_the_check(tmp_path: Path) -> None:
    given, folder = shards(tmp_path / "s", SOUND), tmp_path / "check"
    checking.check(folder, given, ONE, LEVELS)
    pd.DataFrame({"location": given[:1]}).to_parquet(folder / "parts/00000001.parquet")
    files.write_bytes(folder / "facts/00000001.parquet", b"")
    (folder / "facts/00000001.parquet").unlink()
    with pytest.raises(UserError, match=r"the lists in .*/parts/ are not those"):
        checking.check(folder, given, ONE, LEVELS)


def test_no_image_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none of the files is an image"):
        checking.check(tmp_path / "check", [str(tar(tmp_path / "a.tar", {"a/1.png": b"no"}))], ONE, LEVELS)


def test_data_check_prints_its_findings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_bytes((Path(__file__).resolve().parents[4] / "params.yaml").read_bytes())
    shards(tmp_path / "s", FLAWED)
    words = ("data", "check", "s/*.tar", "--output", "check", "--workers", "1")
    assert adaptformer(*words) == 0
    printed = capsys.readouterr().out
    assert "49 images of 3 classes" in printed
    assert "leaks: " in printed
    assert f"findings: see {tmp_path}/check/findings.csv" in printed
    assert adaptformer(*words, "--features") == 1
    assert "artifacts/backbone.safetensors does not exist" in capsys.readouterr().err
    assert adaptformer(*words, "--address", "tcp://a:1") == 1
    assert "--address is that of a Dask or Ray cluster" in capsys.readouterr().err
