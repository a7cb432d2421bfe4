from __future__ import annotations

import io
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

from PIL import Image
from two_models import BETTER, CHAMPION, answering, decision, judged, sha256

from adaptformer.gate.class_changes import ClassChange
from adaptformer.gate.decision import Check, Decision
from adaptformer.gate.decision_page import html
from adaptformer.validation import thumbnails

PNG = b"\x89PNG of "


def shown(found: Decision, gone: frozenset[str] = frozenset()) -> str:
    return html(found, lambda path: None if path in gone else PNG + path.encode())


def captions(page: str, heading: str) -> list[str]:
    part = page.partition(f"<h2>{heading}")[2].partition("</section>")[0]
    return [unescape(text) for text in re.findall("<figcaption>(.*?)</figcaption>", part)]


def rows(page: str, heading: str) -> list[list[str]]:
    part = page.partition(f"<h2>{heading}")[2].partition("</section>")[0].partition("<tbody>")[2]
    lines = re.findall("<tr>(.*?)</tr>", part)
    return [[re.sub("<.*?>", "", unescape(cell)) for cell in re.findall("<td.*?>(.*?)</td>", line)] for line in lines]


def test_the_sentence_comes_first_and_then_the_outcome() -> None:
    found = decision()
    page = shown(found)
    assert f"<h1>{found.sentence}</h1>" in page
    assert "<dt>decision</dt><dd>promoted</dd>" in page
    assert "<dt>compared images</dt><dd>180</dd>" in page
    assert "<dt>top-1</dt><dd>88.9\u00a0% → 97.2\u00a0%</dd>" in page
    low, high = (f"+{100 * found.numbers[key]:.1f}" for key in ("gain_low", "gain_high"))
    assert f"<dd>+8.3 ({low} to {high})</dd>" in page
    assert "<dd>refused</dd>" in shown(decision(CHAMPION, BETTER))


def test_every_check_is_told_with_its_reason() -> None:
    found = decision(replace(BETTER, megabytes=9.0))
    told = rows(shown(found), "What was asked")
    assert [row[1:] for row in told] == [[c.name, c.value, c.bound, c.reason] for c in found.checks]
    signs = {row[1]: row[0] for row in told}
    assert (signs["size"], signs["latency"]) == ("✗\u00a0fail", "✓\u00a0pass")


def test_classes_have_numbers_and_a_drawn_interval() -> None:
    page = shown(decision(judged("7", [*range(5), 30])))
    first = rows(page, "Changes in each class")[0]
    assert first[:5] == ["ant", "60", "88.3 % → 95.0 %", "5", "1"]
    assert first[5].startswith("+6.7 (−")
    assert page.count('<span aria-hidden="true"') == 3


def test_the_drawn_interval_is_to_scale() -> None:
    change = ClassChange("ant", 60, 0.5, 0.6, 9, 3, 0.1, -0.1, 0.2)
    page = shown(replace(decision(), changes=(change,)))
    assert "left:25.0%;width:75.0%" in page
    assert "left:calc(75.0% - .2rem)" in page


def test_of_many_classes_those_are_told_that_changed_most() -> None:
    template = decision().changes[0]
    changes = tuple(replace(template, label=f"class {i:03}") for i in range(70))
    page = shown(replace(decision(), changes=changes))
    told = [row[0] for row in rows(page, "Changes in each class")]
    assert told == [f"class {i:03}" for i in (*range(30), *range(40, 70))]
    assert "10 classes in between changed less." in page


def test_changed_images_are_shown_with_both_answers() -> None:
    page = shown(decision(judged("7", [*range(5), 31])))
    assert captions(page, "Newly right: 15 images")[0] == "ant: bee → ant"
    assert captions(page, "Newly wrong: 1 image") == ["bee: bee → cat"]
    assert "answer of version 5 → answer of version 7" in page


def test_at_most_24_images_are_shown_the_most_confident_ones() -> None:
    confidence = {i: 0.5 + i / 1000 for i in range(60)}
    page = shown(decision(answering(judged("7", ()), confidence=confidence), judged("5", range(60))))
    assert len(captions(page, "Newly right: 60 images")) == 24
    assert "its 24 most confident ones" in page
    assert captions(page, "Newly right: 60 images")[:2] == ["cat: ant → cat", "bee: cat → bee"]  # images 59 and 58
    assert "None." in page.partition("<h2>Newly wrong: 0 images")[2]


def test_an_image_that_is_gone_is_named() -> None:
    page = shown(decision(), frozenset({"test/ant/006.png"}))
    assert "No longer in data/: test/ant/006.png (ant: bee → ant)." in page
    assert len(captions(page, "Newly right")) == 14


def test_what_is_left_out_is_counted() -> None:
    found = decision(
        replace(BETTER, seen=sha256(100, 101)), replace(CHAMPION, seen=sha256(101), classes=("ant", "bee"))
    )
    assert [row[1] for row in rows(shown(found), "Images that are left out")] == ["2", "1", "2", "59"]


def test_classes_of_one_model_are_told_apart() -> None:
    found = decision(replace(BETTER, classes=("ant", "bee", "dog")), replace(CHAMPION, classes=("ant", "cat")))
    told = rows(shown(found), "Classes that only one model knows")
    assert [row[:3] for row in told] == [
        ["cat", "lost: only version 5 knows it", ""], ["bee", "new", "60"], ["dog", "new", "0"],
    ]  # fmt: skip
    assert told[1][3].startswith("96.7 % (")
    assert told[2][3] == "unknown"
    assert "None." in shown(decision()).partition("<h2>Classes that only one")[2]


def test_drift_is_told_and_warned_of() -> None:
    drift = Check("drift of colours", "warn", "0.200", "at most 0.1", "The data differ in colours.")
    page = shown(replace(decision(), drift=(drift,)))
    assert '<ul class="warnings"><li>The data differ in colours.</li></ul>' in page
    assert rows(page, "Drift")[0][0] == "!\u00a0warning"
    assert "Not measured." in shown(decision())


def test_a_first_model_has_nothing_to_be_compared_with() -> None:
    page = shown(decision(champion=None))
    assert "Version 7 becomes the first champion" in page
    assert "<dt>top-1 (95 %)</dt>" in page
    for heading in ("Changes in each class", "Newly", "Drift", "Classes that only"):
        assert f"<h2>{heading}" not in page


def test_without_images_the_page_still_stands() -> None:
    page = shown(decision(replace(BETTER, seen=sha256(*range(180)))))
    assert "<dd>refused</dd>" in page
    assert "Newly right" not in page


def test_names_are_no_html() -> None:
    evil = "<script>alert(1)</script>"
    wrong = dict.fromkeys(range(20), evil)
    classes = ("ant", "bee", "cat", evil)
    found = decision(replace(BETTER, version="<b>", classes=classes), answering(CHAMPION, predicted=wrong))
    page = shown(found) + shown(found, frozenset(image.path for image in found.newly_right))
    assert "<script" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;" in page


def test_it_is_the_same_each_time_and_needs_nothing_from_outside() -> None:
    page = shown(decision())
    assert page == shown(decision())
    without_pictures = re.sub(r"base64,[^\"]+", "", page)
    assert not re.search(r"(https?:)?//[a-z]|<script|<link|url\(|\bnan\b", without_pictures)


def test_sections_can_be_reached_by_keyboard() -> None:
    page = shown(decision())
    links = re.findall(r'<a href="#([^"]+)"', page)
    assert len(links) == 7
    assert set(links) == set(re.findall(r'<section id="([^"]+)"', page))


def test_the_data_reports_thumbnails_fit(tmp_path: Path) -> None:
    Image.new("RGB", (12, 6), "white").save(tmp_path / "wide.png")
    with Image.open(io.BytesIO(thumbnails.thumbnail(tmp_path / "wide.png"))) as picture:
        assert (picture.size, picture.format) == ((64, 64), "PNG")
        assert [picture.getpixel((32, y)) for y in (4, 32)] == [(0, 0, 0), (255, 255, 255)]
    found = decision()
    page = html(found, lambda path: thumbnails.thumbnail(tmp_path / path))
    assert page.count("No longer in data/") == 1
