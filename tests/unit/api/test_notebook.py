"""The notebook for first steps: its code runs from top to bottom, and it is stored without output."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

import adaptformer as af

NOTEBOOK = Path(__file__).resolve().parents[3] / "examples/first_steps.ipynb"
CELLS: list[dict[str, Any]] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
CODE = [cell for cell in CELLS if cell["cell_type"] == "code"]


def run_cell(source: str, names: dict[str, Any]) -> object:
    """Run a cell as a notebook does; return the value of its last expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<cell>", "exec"), names)  # noqa: S102 - the notebook is a file of this repository
    if not isinstance(last, ast.Expr):
        return None
    return eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)  # noqa: S307


def test_the_notebook_is_stored_without_output() -> None:
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in CODE)


def test_the_cells_of_the_notebook_run_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    shown: list[Any] = [run_cell("".join(cell["source"]), names) for cell in CODE]
    images, findings, top1, interval, report, answer = shown
    assert images is None
    assert list(findings.columns) == ["level", "kind", "path"]
    assert isinstance(top1, af.Score)
    assert interval == (top1.low, top1.high)
    assert report.path.as_posix() == "runs/digits/report.html"
    label, probabilities = answer
    assert label in "0123456789"
    assert len(probabilities) == 3
