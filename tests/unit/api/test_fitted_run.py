"""A run shows its metrics as numbers with an interval, and its report in a notebook."""

from __future__ import annotations

import copy
import json
import os
import pickle
from pathlib import Path

import pytest

import adaptformer as af


def test_a_score_is_a_number_with_an_interval_that_survives_copies() -> None:
    score = af.Score(0.5, 0.25, 0.75)
    for one in (score, copy.deepcopy(score), pickle.loads(pickle.dumps(score))):
        assert one == 0.5
        assert (one.low, one.high) == (0.25, 0.75)
    assert str(score) == "50.0 % (25.0 to 75.0 %)"
    assert json.dumps(score) == "0.5"


def test_the_metrics_are_those_of_the_file_with_their_intervals(fitted: af.Run) -> None:
    stored = json.loads(fitted.files.metrics.read_text())
    for name, span in stored["intervals"].items():
        score = fitted.metrics[name]
        assert [score, score.low, score.high] == [stored[name], *span]
    assert fitted.metrics["images"] == stored["images"]
    assert "top1" in fitted.metrics
    with pytest.raises(KeyError):
        fitted.metrics["top9"]


def test_the_report_is_a_path_that_a_notebook_shows_in_a_frame(fitted: af.Run) -> None:
    assert Path(fitted.report) == fitted.files.report
    assert os.fspath(fitted.report) == str(fitted.files.report)
    shown = fitted.report._repr_html_()
    assert shown.startswith("<iframe srcdoc=")
    assert "<html" not in shown  # the page is escaped, so that it cannot end the frame
    assert "&lt;html" in shown


def test_a_folder_without_a_finished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(af.UserError, match=r"metrics\.json is missing"):
        af.Run(tmp_path)
