"""Files that prove what they hold."""

import json

import pytest

from adaptformer.base import integrity
from adaptformer.base.errors import UserError

REMEDY = "run `adaptformer evaluate` again"


def test_a_record_comes_back_without_its_checksum(tmp_path):
    integrity.write_record(tmp_path / "a.json", {"top1": 0.5, "classes": ["ä", "b"]})
    assert integrity.read_record(tmp_path / "a.json", REMEDY) == {"top1": 0.5, "classes": ["ä", "b"]}


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.update(top1=0.6),
        lambda content: content.update(more=1),
        lambda content: content.pop("top1"),
        lambda content: content.update(checksum="0" * 64),
    ],
)
def test_an_edited_record_is_refused_with_the_remedy(tmp_path, change):
    path = tmp_path / "a.json"
    integrity.write_record(path, {"top1": 0.5, "top5": 1.0})
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="not what was written") as error:
        integrity.read_record(path, REMEDY)
    assert error.value.remedy == REMEDY


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", "[" * 100_000])
def test_what_is_no_record_is_refused(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError):
        integrity.read_record(tmp_path / "a.json", REMEDY)


def test_a_checksum_beside_a_file_is_that_of_sha256sum(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("path,label\n")
    integrity.write_beside(path)
    assert (tmp_path / "a.csv.sha256").read_text().endswith("  a.csv\n")
    integrity.check_beside(path, REMEDY)
    path.write_text("path,labex\n")
    with pytest.raises(UserError, match="not what was written"):
        integrity.check_beside(path, REMEDY)


def test_a_file_without_its_checksum_is_not_believed(tmp_path):
    (tmp_path / "a.csv").write_text("path,label\n")
    with pytest.raises(UserError, match="cannot be verified"):
        integrity.check_beside(tmp_path / "a.csv", REMEDY)
