import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from picture_fixtures import data_params
from web_pages import captions, check, figures, rows, section

from adaptformer.config.params import ChecksParams, DataParams
from adaptformer.curation.checks import data_report
from adaptformer.curation.checks.findings import FIXES, find, write
from adaptformer.data.manifest import ValidationShare, scan

Tree = Callable[..., Path]
Sound = dict[str, bytes | int]


PARAMS = data_params(name="pets", validation_fraction=0.2)
LEVELS = ChecksParams.model_validate(dict.fromkeys(FIXES, "warn") | {"small": "none"})


def report(data: Path) -> str:
    """The page of a data set in which near duplicates were not looked for: its pictures are noise of a few pixels."""
    return page(data, PARAMS)


def page(data: Path, params: DataParams) -> str:
    return page_of(scan(data, ValidationShare(0.2, 0))[0], data, params)


def page_of(manifest: pd.DataFrame, data: Path, params: DataParams) -> str:
    found = find(manifest, None, LEVELS)
    return data_report.page(manifest, data, found, write(data.with_name("findings.csv"), found, LEVELS), params)


def test_the_data_report_shows_counts_sizes_modes_and_pictures(tree: Tree, sound: Sound) -> None:
    html = report(tree(sound))
    assert figures(html) == {
        "images": "14", "classes": "2", "train": "8", "validation": "2", "test": "4", "size on disk": "0.0 MB",
    }  # fmt: skip
    assert rows(section(html, "Classes")) == [["cat", "4", "1", "2", ""], ["dog", "4", "1", "2", ""]]
    images = rows(section(html, "Images"))
    assert images[:2] == [["width", "8", "8", "8"], ["height", "6", "6", "6"]]
    assert images[3:] == [["8 x 6", "14"], ["RGB", "14"]]
    assert captions(section(html, "Examples")) == ["cat"] * 4 + ["dog"] * 4
    assert html.count('alt="cat"') == 4
    assert html.count('class="number"') == 3 + 2 * 3 + 3 + 3 * 3 + 2 * 2


def test_the_data_report_names_the_data_set_and_its_date(tree: Tree, sound: Sound) -> None:
    data = tree(sound)
    dated = PARAMS.model_copy(update={"name": "cats & dogs", "date": "2026-11-28"})
    html = page(data, dated)
    assert "Data set: cats &amp; dogs of 2026-11-28." in html
    assert "Data set: pets." in report(data)


def test_bars_show_the_size_of_a_class_relative_to_the_largest(tree: Tree, sound: Sound) -> None:
    html = report(tree({**sound, **{f"train/dog/more{i}.png": 500 + i for i in range(5)}}))
    assert [row[1] for row in rows(section(html, "Classes"))] == ["4", "8"]
    assert html.partition('style="width:')[2].startswith("50.0%")
    assert html.count("width:100.0%") == 1


def test_the_data_report_is_complete_and_has_the_same_bytes_elsewhere(tree: Tree, sound: Sound, tmp_path: Path) -> None:
    first = report(tree(sound))
    check(first)
    assert report(tree(sound, "other place")) == first
    assert str(tmp_path) not in first


def test_findings_are_told_on_top_and_shown_with_their_images(tree: Tree, sound: Sound) -> None:
    data = tree({**sound, "test/cat/x.png": 900, "test/cat/y.png": 900})
    html = report(data)
    check(html)
    assert "<li>duplicates: test/cat/y.png: has the same bytes as test/cat/x.png; keep one of them" in html
    part = section(html, "Findings")
    assert captions(part) == ["test/cat/y.png", "test/cat/x.png"]
    assert "<h3>duplicates: 1</h3>" in part
    assert "<p>train/cat: 4 images in train</p>" in part, "a class has no picture"


def test_of_many_findings_the_first_are_shown(tree: Tree, sound: Sound) -> None:
    data = tree({**sound, **{f"test/cat/x{i:02}.png": 900 for i in range(31)}})
    part = section(report(data), "Findings")
    assert "<h3>duplicates: 30</h3>" in part
    assert "The first 24 are shown; data_findings.csv has all." in part
    assert len(captions(part)) == 2 * 24


def test_a_data_set_without_findings_says_so(tree: Tree) -> None:
    content: Sound = {
        f"{split}/{label}/{i}.png": 1000 * s + 100 * c + i
        for s, (split, count) in enumerate((("train", 20), ("test", 3)))
        for c, label in enumerate(("cat", "dog"))
        for i in range(count)
    }
    html = report(tree(content))
    assert "None." in section(html, "Findings")
    assert 'class="warnings"' not in html


def test_the_data_report_escapes_names(tree: Tree, sound: Sound) -> None:
    label, name = "<b onclick=1>\"&'", "<i title='\">.png"
    html = report(tree({**sound, **{f"train/{label}/{n}{name}": 500 for n in range(2)}}))
    check(html)  # knows no attribute "onclick" or "title"
    assert not {"<i ", "<b "} & set(re.findall("<[bi] ", html))
    assert rows(section(html, "Classes"))[0][0] == label
    assert captions(section(html, "Examples"))[:2] == [label] * 2
    assert any(name in caption for caption in captions(section(html, "Findings")))


def test_many_classes_stay_a_page(tree: Tree) -> None:
    content: Sound = {f"train/{c:03d}/{i}.png": 10 * c + i for c in range(60) for i in range(2)}
    html = report(tree({**content, "test/000/t.png": 9999}))
    assert "10 more classes are not shown." in html
    assert html.count("<figure>") == 50


def test_a_picture_that_is_gone_is_left_out(tree: Tree, sound: Sound) -> None:
    data = tree(sound)
    manifest, _ = scan(data, ValidationShare(0.2, 0))
    for path in (data / "train/cat").iterdir():
        path.unlink()
    assert page_of(manifest, data, PARAMS).count("<figure>") == 4
