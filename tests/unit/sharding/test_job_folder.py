"""The folder of a job of any kind: a new one, one that is continued, and one of an earlier version."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from adaptformer.base import integrity
from adaptformer.base.errors import UserError
from adaptformer.sharding import job_folder


@dataclass(frozen=True, kw_only=True)
class Count(job_folder.Job):
    """A job that counts letters."""

    letters: str

    kind: ClassVar[str] = "another count"
    description: ClassVar[str] = "count.json"
    lists: ClassVar[str] = "words"
    column: ClassVar[str] = "word"
    stored_names: ClassVar[Mapping[str, str]] = {"shards": "parts"}


WORDS = [["one", "two"], ["three"]]


def prepare(folder: Path, letters: str = "abc", words: list[list[str]] = WORDS) -> Count:
    return Count.prepare(str(folder), ["/texts"], words, {"alphabet": Path(__file__)}, letters=letters)


def test_a_new_job_has_its_lists_and_the_files_that_it_needs(tmp_path: Path) -> None:
    job = prepare(tmp_path)
    assert (job.shards, job.sources, job.letters) == (2, ("/texts",), "abc")
    assert sorted(path.name for path in (tmp_path / "words").iterdir()) == ["00000000.parquet", "00000001.parquet"]
    assert Path(job.file("alphabet")).read_bytes() == Path(__file__).read_bytes()
    assert json.loads((tmp_path / "count.json").read_text())["parts"] == 2


def test_a_job_that_is_continued_lists_nothing(tmp_path: Path) -> None:
    def nothing() -> object:
        raise AssertionError("it was listed")
        yield

    assert prepare(tmp_path) == prepare(tmp_path, words=nothing())  # type: ignore[arg-type]


def test_another_job_in_the_folder_is_refused(tmp_path: Path) -> None:
    prepare(tmp_path)
    with pytest.raises(UserError, match="holds another count, with other letters"):
        prepare(tmp_path, "xyz")


def test_a_description_without_a_checksum_is_that_of_an_earlier_version(tmp_path: Path) -> None:
    job = prepare(tmp_path)
    described = {"sources": ["/texts"], "parts": 2, "inputs": job.inputs, "letters": "abc"}
    (tmp_path / "count.json").write_text(json.dumps(described))
    assert prepare(tmp_path) == job


@pytest.mark.parametrize("content", [{"sources": []}, {"shards": 2, "letters": "abc"}])
def test_a_description_with_other_fields_is_refused(tmp_path: Path, content: dict[str, object]) -> None:
    prepare(tmp_path)
    integrity.write_record(tmp_path / "count.json", content)
    with pytest.raises(UserError, match="was written by another version of adaptformer"):
        prepare(tmp_path)


@pytest.mark.parametrize("content", ["[]", "7", "{", "[" * 100_000])
def test_a_description_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    prepare(tmp_path)
    (tmp_path / "count.json").write_text(content)
    with pytest.raises(UserError, match=r"count\.json (cannot be read|has no checksum)"):
        prepare(tmp_path)
