"""What was read is not read again, and what has changed is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL
import pytest

from adaptformer.data import image_files
from adaptformer.data.decoding import Pixels
from adaptformer.data.image_facts import ImageFacts
from adaptformer.data.image_scan import ReadOptions, copy_all, read_all
from adaptformer.data.stat_cache import StatCache, known_hash

Picture = Callable[..., bytes]
LONG_AGO = 1_600_000_000


@pytest.fixture
def paths(picture: Picture, tmp_path: Path) -> list[Path]:
    found = [tmp_path / f"{number}.png" for number in range(3)]
    for number, path in enumerate(found):
        path.write_bytes(picture(number))
        os.utime(path, (LONG_AGO, LONG_AGO))
    return found


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []
    read = image_files.read
    monkeypatch.setattr(image_files, "read", lambda path, limit: (seen.append(path.name), read(path, limit))[1])
    return seen


def scanned(paths: list[Path], known: StatCache) -> tuple[list[ImageFacts | str], dict[int, Pixels]]:
    pictures: dict[int, Pixels] = {}
    return list(read_all(paths, pictures.__setitem__, ReadOptions(known))), pictures


def test_what_is_known_is_not_read_and_the_same(paths: list[Path], tmp_path: Path, reads: list[str]) -> None:
    file = tmp_path / "facts.npz"
    first = StatCache(file)
    facts, pictures = scanned(paths, first)
    assert first.hits == 0
    first.write()
    reads.clear()
    second = StatCache(file)
    again, pictures_again = scanned(paths, second)
    assert (again, second.hits, reads) == (facts, 3, [])
    assert pictures_again.keys() == pictures.keys() == {0, 1, 2}
    for number, small in pictures.items():
        np.testing.assert_array_equal(pictures_again[number], small)
    assert known_hash(paths[1], second) == facts[1].sha256  # type: ignore[union-attr]
    assert known_hash(paths[1], None) == facts[1].sha256  # type: ignore[union-attr]


@pytest.mark.parametrize("change", ["bytes", "time", "another file"])
def test_what_has_changed_is_read_again(
    change: str, paths: list[Path], picture: Picture, tmp_path: Path, reads: list[str]
) -> None:
    known = StatCache(tmp_path / "facts.npz")
    scanned(paths, known)
    known.write()
    if change == "bytes":
        with paths[1].open("ab") as file:
            file.write(b"more")
        os.utime(paths[1], (LONG_AGO, LONG_AGO))
    elif change == "time":
        paths[1].write_bytes(paths[1].read_bytes())
    else:
        new = tmp_path / "new.png"
        new.write_bytes(paths[1].read_bytes())
        os.utime(new, (LONG_AGO, LONG_AGO))
        new.rename(paths[1])
    reads.clear()
    scanned(paths, StatCache(tmp_path / "facts.npz"))
    assert reads == ["1.png"]


def test_a_file_keeps_its_facts_under_another_name(paths: list[Path], tmp_path: Path, reads: list[str]) -> None:
    known = StatCache(tmp_path / "facts.npz")
    facts, _ = scanned(paths, known)
    known.write()
    reads.clear()
    os.link(paths[0], tmp_path / "linked.png")
    paths[1].rename(tmp_path / "renamed.png")
    moved = [tmp_path / "linked.png", tmp_path / "renamed.png"]
    assert scanned(moved, StatCache(tmp_path / "facts.npz"))[0] == facts[:2]
    assert reads == []


def test_copies_of_a_file_have_its_known_facts(paths: list[Path], tmp_path: Path, reads: list[str]) -> None:
    known = StatCache(tmp_path / "facts.npz")
    copies = [tmp_path / f"{number}.copy" for number in range(3)]
    facts = list(copy_all(paths, copies, ReadOptions(known)))
    known.write()
    reads.clear()
    again, pictures = scanned(copies, StatCache(tmp_path / "facts.npz"))
    assert (again, reads, len(pictures)) == (facts, [], 3)


def test_facts_without_pictures_do_not_serve_where_these_are_wanted(
    paths: list[Path], tmp_path: Path, reads: list[str]
) -> None:
    known = StatCache(tmp_path / "facts.npz")
    facts = list(read_all(paths, options=ReadOptions(known)))
    known.write()
    reads.clear()
    known = StatCache(tmp_path / "facts.npz")
    assert list(read_all(paths, options=ReadOptions(known))) == facts
    assert reads == []
    assert len(scanned(paths, known)[1]) == 3
    assert sorted(reads) == ["0.png", "1.png", "2.png"]


def test_a_file_that_was_just_written_is_not_trusted(paths: list[Path], tmp_path: Path, reads: list[str]) -> None:
    paths[2].write_bytes(paths[2].read_bytes())
    known = StatCache(tmp_path / "facts.npz")
    scanned(paths, known)
    reads.clear()
    scanned(paths, known)
    assert reads == ["2.png"]


def test_what_is_no_image_is_read_each_time(paths: list[Path], tmp_path: Path, reads: list[str]) -> None:
    paths[0].write_bytes(b"text")
    os.utime(paths[0], (LONG_AGO, LONG_AGO))
    known = StatCache(tmp_path / "facts.npz")
    assert scanned(paths, known)[0][0] == scanned(paths, known)[0][0]
    assert reads.count("0.png") == 2


def test_what_nobody_asked_for_is_forgotten(paths: list[Path], tmp_path: Path, reads: list[str]) -> None:
    file = tmp_path / "facts.npz"
    known = StatCache(file)
    scanned(paths, known)
    known.write()
    known = StatCache(file)
    known_hash(paths[1], known)
    known.write()
    reads.clear()
    scanned(paths, StatCache(file))
    assert sorted(reads) == ["0.png", "2.png"]


def test_a_damaged_file_or_another_version_is_nothing(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "facts.npz"
    known = StatCache(file)
    scanned(paths, known)
    known.write()
    whole = file.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(PIL, "__version__", "another")
        other = StatCache(file)
        scanned(paths, other)
        assert other.hits == 0
    assert not caplog.records
    for content in (whole[: len(whole) // 2], b""):
        file.write_bytes(content)
        damaged = StatCache(file)
        scanned(paths, damaged)
        assert damaged.hits == 0
        assert "is damaged: all files are read again" in caplog.text
        caplog.clear()
