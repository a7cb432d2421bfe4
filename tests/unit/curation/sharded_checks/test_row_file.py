from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adaptformer.curation.sharded_checks.row_file import Rows


def test_rows_are_read_in_parts_and_in_any_order(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(10, 2, 3)).astype(np.float32)
    rows = Rows(tmp_path / "rows", (2, 3), np.float32)
    rows.append(values[:4])
    rows.append(values[4:].astype(np.float64))
    assert len(rows) == 10
    np.testing.assert_array_equal(rows[3:7], values[3:7])
    np.testing.assert_array_equal(rows[8:99], values[8:])
    assert rows[10:20].shape == (0, 2, 3)
    order = np.array([7, 0, 7, 3])
    np.testing.assert_array_equal(rows[order], values[order])
    assert rows[np.zeros(0, np.int64)].shape == (0, 2, 3)


def test_a_row_that_is_cut_off_is_an_error(tmp_path: Path) -> None:
    rows = Rows(tmp_path / "rows", (2, 3), np.float32)
    rows.append(np.ones((2, 2, 3), np.float32))
    content = (tmp_path / "rows").read_bytes()
    (tmp_path / "rows").write_bytes(content[:-1])
    np.testing.assert_array_equal(rows[np.array([0])], np.ones((1, 2, 3), np.float32))
    with pytest.raises(EOFError, match="ends before its row 1"):
        rows[np.array([0, 1])]
