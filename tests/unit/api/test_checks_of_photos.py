"""Checks of images where they are: faults and findings by their paths in the source, and labels that seem wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image
from squares import mite_values, write_squares

import adaptformer as af


def listing(root: Path) -> list[str]:
    return sorted(str(path) for path in root.rglob("*"))


def test_faults_and_findings_are_rows_with_the_paths_of_the_source(tmp_path: Path) -> None:
    squares = write_squares(tmp_path / "squares", side=32, per_class=12)
    (squares / "blue/bad.png").write_bytes(b"no image")
    shutil.copy(squares / "amber/0.png", squares / "coral/same.png")
    Image.new("RGB", (32, 32), "red").save(squares / "coral/red.png")
    before = listing(squares)
    table = af.check(squares, overrides={"checks.few_images": "none"})
    assert listing(squares) == before
    faults = table[table["level"] == "fault"]
    assert set(faults["kind"]) >= {"unreadable file", "conflicting labels"}
    assert set(faults.loc[faults["kind"] == "unreadable file", "path"]) == {"blue/bad.png"}
    assert set(faults.loc[faults["kind"] == "conflicting labels", "path"]) == {"amber/0.png", "coral/same.png"}
    constant = table[table["kind"] == "constant"].iloc[0]
    assert (constant["path"], constant["level"]) == ("coral/red.png", "warn")
    assert (table["fix"] != "").all()
    assert "few_images" not in set(table["kind"])


def test_a_photo_that_occurs_twice_names_the_other_one(tmp_path: Path) -> None:
    squares = write_squares(tmp_path / "squares", side=32, per_class=12)
    Image.open(squares / "blue/0.png").resize((40, 40)).save(squares / "blue/larger.png")
    pairs = af.check(squares)
    pairs = pairs[(pairs["path"].isin(["blue/0.png", "blue/larger.png"])) & (pairs["other"] != "")]
    assert len(pairs) == 1
    assert {pairs.iloc[0]["path"], pairs.iloc[0]["other"]} == {"blue/0.png", "blue/larger.png"}
    assert pairs.iloc[0]["other"] in pairs.iloc[0]["detail"]


def test_a_wrong_label_comes_first(tmp_path: Path) -> None:
    squares = write_squares(tmp_path / "squares", per_class=12)
    (squares / "blue/5.png").rename(squares / "coral/misplaced.png")
    table = af.label_errors(squares, overrides=mite_values(tmp_path))
    assert list(table.columns) == ["path", "label", "looks_like", "probability", "label_probability", "likely_wrong"]
    assert len(table) == 36
    first = table.iloc[0]
    assert (first["path"], first["label"], first["looks_like"]) == ("coral/misplaced.png", "coral", "blue")
    assert first["likely_wrong"]


def test_labels_of_a_source_with_bad_files_are_not_judged(tmp_path: Path) -> None:
    squares = write_squares(tmp_path / "squares", per_class=4)
    (squares / "blue/bad.png").write_bytes(b"no image")
    with pytest.raises(af.UserError, match=r"1 files cannot be used: blue/bad\.png"):
        af.label_errors(squares, overrides=mite_values(tmp_path))
