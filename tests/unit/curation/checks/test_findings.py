"""What is no fault but deserves a look, each kind at its level."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from adaptformer.base.errors import UserError
from adaptformer.config.params import ChecksParams
from adaptformer.curation.checks import findings, near_duplicates
from adaptformer.curation.checks.findings import Finding


def levels(**changes: str) -> ChecksParams:
    return ChecksParams.model_validate(dict.fromkeys(findings.FIXES, "warn") | changes)


def only(kind: str) -> ChecksParams:
    return levels(**{other: "none" for other in findings.FIXES if other != kind})


def manifest(*paths: str, **columns: Any) -> pd.DataFrame:
    """One row for each path, of images that are all different."""
    parts = [path.split("/") for path in paths]
    hashes = [hashlib.sha256(path.encode()).hexdigest() for path in paths]
    table = pd.DataFrame({
        "path": paths, "label": [part[1] for part in parts], "split": [part[0] for part in parts], "width": 40,
        "height": 30, "mode": "RGB", "bytes": 100, "sha256": hashes,
    })  # fmt: skip
    return table.assign(**columns)


def kinds(table: pd.DataFrame, given: ChecksParams, pictures: Any = None) -> list[tuple[str, str, str]]:
    return [(one.kind, one.path, one.detail) for one in findings.find(table, pictures, given)]


def test_every_kind_has_a_level_and_a_remedy() -> None:
    assert set(findings.FIXES) == set(ChecksParams.model_fields)


def test_images_that_hardly_show_anything_are_found() -> None:
    noise = np.random.default_rng(0).integers(0, 9, (4, 4, 3), np.uint8)
    levels_of = {"dark": noise, "bright": noise + 246, "low_contrast": noise // 2 + 100, "usual": noise * 20}
    pictures = np.array(list(levels_of.values()))
    table = manifest(*(f"train/cat/{name}.png" for name in levels_of))
    wanted = levels(few_images="none", missing_classes="none", leaks="none", label_conflicts="none", duplicates="none")
    assert [(kind, Path(path).stem) for kind, path, _ in kinds(table, wanted, pictures)] == [
        ("dark", "dark"), ("bright", "bright"), ("low_contrast", "low_contrast"),
    ]  # fmt: skip


def test_sixteen_bits_that_end_early_are_found_with_the_parameter_to_set() -> None:
    twelve = np.random.default_rng(0).integers(0, 16, (1, 4, 4, 3), np.uint8)
    table = manifest("train/cat/1.png", mode="I;16")
    assert [kind for kind, _, _ in kinds(table, only("sixteen_bits"), twelve)] == ["sixteen_bits"]
    assert not kinds(table, only("dark"), twelve), "told once"
    assert not kinds(table, only("sixteen_bits"), twelve * 16)
    assert not kinds(manifest("train/cat/1.png"), only("sixteen_bits"), twelve)
    assert "image.sixteen_bit_max" in findings.FIXES["sixteen_bits"]


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        (("train/cat/1.png", "test/cat/2.png"), {"leaks"}),
        (("train/cat/1.png", "train/dog/2.png"), {"label_conflicts"}),
        (("train/cat/1.png", "train/cat/2.png"), {"duplicates"}),
        (("train/cat/1.png", "test/dog/2.png"), {"leaks", "label_conflicts"}),
    ],
)
def test_a_near_duplicate_is_what_its_places_make_it(
    monkeypatch: pytest.MonkeyPatch, pair: tuple[str, str], expected: set[str]
) -> None:
    monkeypatch.setattr(near_duplicates, "pairs", lambda pictures: np.array([[0, 1]]))
    pictures = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), np.uint8)
    table = manifest(*pair)
    for kind in ("leaks", "label_conflicts", "duplicates"):
        found = findings.find(table, pictures, only(kind))
        detail = f"seems to show the same photo as {pair[1]}"
        assert found == ([Finding(kind, pair[0], pair[1], detail)] if kind in expected else [])
    same = table.assign(sha256="0" * 64)  # faults of their own, which curation/checks/faults.py finds
    assert findings.find(same, pictures, only("leaks")) == []


def test_pixels_are_compared_only_where_a_level_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "pairs", lambda pictures: pytest.fail("compared"))
    table = manifest("train/cat/1.png", "train/cat/2.png")
    pictures = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), np.uint8)
    assert findings.needs_pictures(only("constant"))
    assert findings.find(table, pictures, only("constant")) == []
    assert not findings.needs_pictures(only("imbalance"))
    assert all(findings.needs_pictures(only(kind)) for kind in ("leaks", "label_conflicts", "duplicates"))


def test_the_same_bytes_within_a_split_are_a_repeat_of_the_first() -> None:
    table = manifest("train/cat/1.png", "train/cat/2.png", "train/cat/3.png", "test/cat/4.png")
    table.loc[[0, 2, 3], "sha256"] = "0" * 64
    assert kinds(table, only("duplicates")) == [
        ("duplicates", "train/cat/3.png", "has the same bytes as train/cat/1.png")
    ]


def test_images_of_one_colour() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), np.uint8)
    pictures[1] = 77
    pictures[2] = [[[10, 10, 10], [12, 10, 10]] * 2] * 4  # JPEG leaves such traces
    table = manifest("train/cat/1.png", "train/cat/2.png", "train/cat/3.png")
    assert [path for _, path, _ in kinds(table, only("constant"), pictures)] == ["train/cat/2.png", "train/cat/3.png"]


def test_small_images_and_odd_modes() -> None:
    table = manifest(*(f"train/cat/{i:03}.png" for i in range(100)))
    assert kinds(table, levels(missing_classes="none")) == []
    table.loc[7, ["width", "height"]] = 100, 15
    table.loc[8, ["width", "height"]] = 16, 16
    table.loc[9, "mode"] = "CMYK"
    assert kinds(table, only("small")) == [("small", "train/cat/007.png", "100 x 15 pixels")]
    assert kinds(table, only("rare_modes")) == [
        ("rare_modes", "train/cat/009.png", "mode CMYK, as 1 of 100 images have it")
    ]
    assert kinds(table.head(99), only("rare_modes")) == [], "too few to call one of them odd"
    table.loc[10, "mode"] = "CMYK"
    assert kinds(table, only("rare_modes")) == []


def test_classes_that_are_small_missing_or_unlike_the_others() -> None:
    table = manifest(
        *(f"train/cat/{i}.png" for i in range(101)), *(f"train/dog/{i}.png" for i in range(10)), "train/owl/1.png",
        "validation/cat/v.png", "validation/dog/v.png", "validation/owl/v.png", "test/cat/t.png", "test/owl/t.png",
    )  # fmt: skip
    assert kinds(table, levels()) == [
        ("imbalance", "train/dog", "10 images in train, cat has 101"),
        ("imbalance", "train/owl", "1 images in train, cat has 101"),
        ("few_images", "train/owl", "1 images in train"),
        ("missing_classes", "test/dog", "no images in test"),
    ]


def test_a_line_for_each_kind_names_the_remedy(tmp_path: Path) -> None:
    table, given = manifest("train/cat/1.png", "train/dog/1.png"), levels(missing_classes="none")
    summary = findings.write(tmp_path / "findings.csv", findings.find(table, None, given), given)
    assert summary.counts == {"few_images": 2}
    assert summary.lines == {
        "few_images": "few images: train/cat: 1 images in train and 1 more; add images of the class"
    }


def test_findings_whose_level_is_none_are_not_written(tmp_path: Path) -> None:
    found = [Finding("small", "train/cat/1.png", "", "3 x 3 pixels"), Finding("unreadable", "2.png", "", "no image")]
    summary = findings.write(tmp_path / "findings.csv", found, levels(small="none"))
    assert summary.counts == {"unreadable": 1}
    written = pd.read_csv(tmp_path / "findings.csv", keep_default_na=False)
    assert list(written["path"]) == ["2.png"]


def test_what_is_an_error_is_raised_and_the_file_has_all(tmp_path: Path) -> None:
    table = manifest("train/cat/1.png", "train/dog/1.png")
    strict = levels(few_images="error")
    found = findings.find(table, None, strict)
    summary = findings.write(tmp_path / "findings.csv", found, strict)
    written = pd.read_csv(tmp_path / "findings.csv", keep_default_na=False)
    assert list(written.columns) == list(findings.COLUMNS)
    assert set(written["level"]) == {"error", "warn"}
    assert set(written["fix"]) == {findings.FIXES["few_images"], findings.FIXES["missing_classes"]}
    with pytest.raises(UserError, match="2 findings whose level is error: few images: train/cat") as caught:
        findings.raise_on_errors(summary, strict, "data/ has", "correct data/")
    assert caught.value.remedy == "correct data/, or set checks.few_images to warn"
    findings.raise_on_errors(summary, levels(), "data/ has", "correct data/")
