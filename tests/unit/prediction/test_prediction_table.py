from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

from adaptformer.prediction.prediction_table import write_csv, write_json, write_table
from adaptformer.prediction.predictor import Prediction

PREDICTIONS = [
    Prediction(Path("photos/a.png"), ("cat", "dog"), (0.75, 0.25)),
    Prediction(Path("b.png"), fault="empty file"),
    Prediction(Path('c "1", x.png'), ("dog", "cat"), (0.999999, 0.000001)),
]


def test_the_table_lines_up_behind_the_longest_path() -> None:
    out = io.StringIO()
    write_table(out, PREDICTIONS)
    assert out.getvalue().splitlines() == [
        'photos/a.png   cat 75.0 %   dog 25.0 %',
        'b.png          not read: empty file',
        'c "1", x.png   dog 100.0 %   cat 0.0 %',
    ]  # fmt: skip


def test_no_predictions_are_no_lines() -> None:
    out = io.StringIO()
    write_table(out, [])
    assert out.getvalue() == ""


def test_csv_has_a_column_for_each_rank_and_quotes_what_needs_it() -> None:
    out = io.StringIO()
    write_csv(out, PREDICTIONS, top=2)
    assert out.getvalue().splitlines()[0] == "path,fault,class1,probability1,class2,probability2"
    rows = list(csv.DictReader(io.StringIO(out.getvalue())))
    assert [row["path"] for row in rows] == ["photos/a.png", "b.png", 'c "1", x.png']
    assert rows[0] == {
        "path": "photos/a.png", "fault": "", "class1": "cat", "probability1": "0.750000", "class2": "dog",
        "probability2": "0.250000",
    }  # fmt: skip
    assert (rows[1]["fault"], rows[1]["class1"]) == ("empty file", "")
    assert rows[2]["probability2"] == "0.000001"
    assert "\r" not in out.getvalue()


def test_csv_is_written_row_by_row() -> None:
    out, lengths = io.StringIO(), []

    def one_by_one() -> Iterator[Prediction]:
        for prediction in PREDICTIONS:
            lengths.append(len(out.getvalue().splitlines()))
            yield prediction

    write_csv(out, one_by_one(), top=2)
    assert lengths == [1, 2, 3]


def test_every_row_of_csv_has_as_many_cells_as_the_header() -> None:
    out = io.StringIO()
    write_csv(out, PREDICTIONS, top=3)
    assert {len(row) for row in csv.reader(io.StringIO(out.getvalue()))} == {8}


def test_an_answer_below_the_bound_is_marked_as_unsure() -> None:
    table, rows, lines = io.StringIO(), io.StringIO(), io.StringIO()
    write_table(table, PREDICTIONS, 0.75)
    assert "unsure" not in table.getvalue(), "the bound itself is sure"
    write_table(table, PREDICTIONS, 0.8)
    assert [line for line in table.getvalue().splitlines() if "unsure" in line] == [
        "photos/a.png   unsure   cat 75.0 %   dog 25.0 %"
    ]
    write_csv(rows, PREDICTIONS, 2, 0.8)
    assert [row["unsure"] for row in csv.DictReader(io.StringIO(rows.getvalue()))] == ["1", "0", "0"]
    write_json(lines, PREDICTIONS, 0.8)
    assert [json.loads(line).get("unsure") for line in lines.getvalue().splitlines()] == [True, None, False]


def test_json_has_an_object_for_each_line() -> None:
    out = io.StringIO()
    write_json(out, PREDICTIONS)
    told = [json.loads(line) for line in out.getvalue().splitlines()]
    assert told[0] == {
        "path": "photos/a.png",
        "classes": [{"class": "cat", "probability": 0.75}, {"class": "dog", "probability": 0.25}],
    }
    assert told[1] == {"path": "b.png", "fault": "empty file"}
    assert told[2]["path"] == 'c "1", x.png'
