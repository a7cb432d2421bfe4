"""CSV that spreadsheets do not take for formulas, and that reads back as it was."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pandas as pd
import pytest

from adaptformer.base import csv_file

FORMULAS = ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "'=1", "''=1", "'-"]
PLAIN = ["", "cat", "a=b", "'tis", "'", "O'Neil", "007", "NA", "null", "a,b", 'say "x"', "two\nlines", "é", " x", "#1"]


@pytest.mark.parametrize("text", [*FORMULAS, *PLAIN])
def test_a_text_reads_back_as_it_was(text: str) -> None:
    assert csv_file.unguarded(csv_file.guarded(text)) == text


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_begins_as_a_formula_does(text: str) -> None:
    assert csv_file.guarded(text) == f"'{text}"


@pytest.mark.parametrize("text", PLAIN)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert csv_file.guarded(text) == text


@pytest.mark.parametrize("text", ["=x", "-1"])
def test_a_list_of_somebody_else_may_have_no_apostrophes(text: str) -> None:
    assert csv_file.unguarded(text) == text


def test_a_table_reads_back_as_it_was_and_numbers_stay_numbers(tmp_path: Path) -> None:
    texts = [*FORMULAS, *PLAIN]
    table = pd.DataFrame({"path": texts, "number": -1, "share": -0.25, "=head": "x"})
    path = tmp_path / "table.csv"
    path.write_text(csv_file.text(table), newline="")
    cells = list(csv.reader(io.StringIO(path.read_bytes().decode(), newline="")))
    assert cells[0] == ["path", "number", "share", "'=head"]
    assert {tuple(row[1:3]) for row in cells[1:]} == {("-1", "-0.25")}
    assert [row[0] for row in cells[1:]] == [csv_file.guarded(text) for text in texts]
    read = csv_file.read(path)
    assert list(read["path"]) == texts
    assert list(read.columns) == ["path", "number", "share", "=head"]


def test_ordinary_tables_have_the_bytes_that_pandas_gives_them() -> None:
    table = pd.DataFrame({"path": ["a/b.jpg", "c, d"], "width": [3, 4], "share": [0.1, None], "flag": [True, False]})
    assert csv_file.text(table) == table.to_csv(index=False, lineterminator="\n")


def test_columns_of_mixed_values_keep_their_numbers() -> None:
    table = pd.DataFrame({"value": pd.Series([-3, "-3", None], dtype=object)})
    assert csv_file.text(table) == 'value\n-3\n\'-3\n""\n'


def test_a_writer_guards_texts_and_paths_but_no_numbers() -> None:
    out = io.StringIO()
    csv_file.Writer(out).row(["=x", Path("-y"), -0.5, None, "bad\udcff.jpg"])
    assert out.getvalue() == "'=x,'-y,-0.5,,bad\\udcff.jpg\n"


def test_in_a_terminal_a_writer_prints_nothing_that_steers_it(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(out, "isatty", lambda: True)
    csv_file.Writer(out).row(["a\x1b[2J\x07\nb"])
    assert out.getvalue() == "a\\x1b[2J\\x07\\nb\n"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"\n\n", "it is empty"),
        (b"a,b\n1\n", "line 2 has 1 cells, and the header 2"),
        (b"a,b\n1,2\n1,2,3\n", "line 3 has 3 cells"),
        (b"a,a\n1,2\n", "the column 'a' twice"),
        (b"a\n\0\n", "line 2 has a NUL character"),
        (b'a\n"b\n', "line 2: unexpected end of data"),
        (b'a\n"b"c\n', "line 2: "),
        (b"a\n" + b"x" * 200_000, "field larger than field limit"),
        (b"a\n\xff\n", "can't decode"),
    ],
)
def test_what_is_no_table_has_one_reason(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        csv_file.read(path)


def test_a_byte_order_mark_and_empty_lines_are_no_content(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes("\ufeff\ufeffa,b\r\n\r\n1,2\r\n\r\n".encode())
    assert csv_file.read(path).to_dict("records") == [{"a": "1", "b": "2"}]


def test_a_header_alone_is_a_table_without_rows(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b"a,b\n")
    assert list(csv_file.read(path)) == ["a", "b"]
    assert csv_file.read(path).empty


def test_no_other_file_of_the_library_writes_or_reads_csv() -> None:
    library = Path(csv_file.__file__).parents[1]
    elsewhere = {path: path.read_text() for path in library.rglob("*.py") if path != Path(csv_file.__file__)}
    ways = re.compile(r"\.to_csv\(|read_csv\(|csv\.(writer|DictWriter|DictReader)\(")
    assert [str(path) for path, text in elsewhere.items() if ways.search(text)] == []
    readers = [text for text in elsewhere.values() if "csv.reader(" in text]
    assert all("unguarded(" in text for text in readers), "a reader takes the apostrophes off"
