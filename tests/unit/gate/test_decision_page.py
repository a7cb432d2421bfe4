from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

from PIL import Image
from two_models import BETTER, CHAMPION, answering, decision, judged, sha256
from web_pages import captions, check, figures, headline, rows, section, words

from adaptformer.curation.checks import thumbnails
from adaptformer.gate.class_changes import ClassChange
from adaptformer.gate.decision import Check, Decision
from adaptformer.gate.decision_page import html

PNG = b"\x89PNG of "


def shown(found: Decision, gone: frozenset[str] = frozenset()) -> str:
    return html(found, lambda path: None if path in gone else PNG + path.encode())


def test_the_sentence_comes_first_and_then_the_outcome() -> None:
    found = decision()
    page = shown(found)
    low, high = (f"+{100 * found.numbers[key]:.1f}" for key in ("gain_low", "gain_high"))
    assert headline(page) == found.sentence
    assert figures(page) == {
        "decision": "promoted",
        "compared images": "180",
        "top-1": "88.9 % → 97.2 %",
        "gain in top-1, points (90 %)": f"+8.3 ({low} to {high})",
        "p of no gain": "p = 0.001",
    }
    assert figures(shown(decision(CHAMPION, BETTER)))["decision"] == "refused"


def test_the_decision_page_shows_the_training_data_of_each_version() -> None:
    dated = decision(replace(BETTER, data="pets of 2026-11-28"), replace(CHAMPION, data="pets"))
    assert "Version 7 was trained on pets of 2026-11-28. Version 5 was trained on pets." in shown(dated)
    assert "was trained on" not in shown(decision())


def test_figures_are_those_of_the_chosen_metric() -> None:
    found = decision(metric="balanced_accuracy")
    listed = figures(shown(found))
    assert listed["top-1"] == listed["balanced accuracy"] == "88.9 % → 97.2 %"
    assert listed["p of no gain"] == "p < 0.001"
    assert listed["gain in balanced accuracy, points (90 %)"].startswith("+8.3 (+")
    strict = figures(shown(decision(metric="balanced_accuracy", significance=0.01, margin=-0.02)))
    assert "gain in balanced accuracy, points (98 %)" in strict
    assert strict["p of no more than −2.0 points"] == "p < 0.001"


def test_the_number_of_looks_is_listed() -> None:
    listed = rows(section(shown(decision(earlier_looks=11)), "Checks"))
    assert [row[:3] for row in listed if row[0] == "! warning"] == [["! warning", "looks at these test images", "12"]]


def test_every_check_is_listed_with_its_reason() -> None:
    found = decision(replace(BETTER, megabytes=9.0))
    listed = rows(section(shown(found), "Checks"))
    assert [row[1:] for row in listed] == [[c.name, c.value, c.bound, c.reason] for c in found.checks]
    signs = {row[1]: row[0] for row in listed}
    assert (signs["size"], signs["latency"]) == ("✗ fail", "✓ pass")


def test_classes_have_numbers_and_a_drawn_interval() -> None:
    page = shown(decision(judged("7", [*range(5), 30])))
    first = rows(section(page, "Changes by class"))[0]
    assert first[:5] == ["ant", "60", "88.3 % → 95.0 %", "5", "1"]
    assert first[5].startswith("+6.7 (−")
    assert first[6] == "p = 1.000"
    untested = rows(section(shown(decision(min_class_images=61)), "Changes by class"))
    assert [row[6] for row in untested] == ["not tested"] * 3
    assert page.count('<span class="interval" aria-hidden="true">') == 3


def test_the_drawn_interval_is_to_scale() -> None:
    change = ClassChange("ant", 60, 0.5, 0.6, 9, 3, 0.1, -0.1, 0.2, 1.0)
    page = shown(replace(decision(), changes=(change,)))
    assert "left:25.0%;width:75.0%" in page
    assert "left:calc(75.0% - .2rem)" in page


def test_of_many_classes_those_are_listed_that_changed_most() -> None:
    template = decision().changes[0]
    changes = tuple(replace(template, label=f"class {i:03}") for i in range(70))
    text = section(shown(replace(decision(), changes=changes)), "Changes by class")
    assert [row[0] for row in rows(text)] == [f"class {i:03}" for i in (*range(30), *range(40, 70))]
    assert "10 classes in between changed less." in text


def test_sixty_classes_are_all_listed() -> None:
    template = decision().changes[0]
    changes = tuple(replace(template, label=f"class {i:03}") for i in range(60))
    text = section(shown(replace(decision(), changes=changes)), "Changes by class")
    assert len(rows(text)) == 60
    assert "changed less" not in text


def test_all_that_both_have_wrong_are_counted_though_few_are_shown() -> None:
    page = shown(decision(judged("7", range(40)), judged("5", range(50))))
    assert len(captions(section(page, "Both wrong: 40 images"))) == 24


def test_changed_images_are_shown_with_both_predictions() -> None:
    page = shown(decision(judged("7", [*range(5), 31])))
    assert captions(section(page, "Newly right: 15 images"))[0] == "ant: bee → ant"
    assert captions(section(page, "Newly wrong: 1 image")) == ["bee: bee → cat"]
    assert "True class: prediction of version 5 → prediction of version 7; the most confident first." in words(page)


def test_at_most_24_images_are_shown_the_most_confident_ones() -> None:
    confidence = {i: 0.5 + i / 1000 for i in range(60)}
    page = shown(decision(answering(judged("7", ()), confidence=confidence), judged("5", range(60))))
    right = section(page, "Newly right: 60 images")
    assert len(captions(right)) == 24
    assert "the 24 most confident ones" in right
    assert captions(right)[:2] == ["cat: ant → cat", "bee: cat → bee"]  # images 59 and 58
    assert "None." in section(page, "Newly wrong: 0 images")


def test_a_table_of_four_cells_leads_to_their_images() -> None:
    page = shown(decision(judged("7", [*range(5), 60]), judged("5", range(20))))
    table = section(page, "Right and wrong")
    assert rows(table) == [
        ["version 5 right", "Both right: 159", "Newly wrong: 1"],
        ["version 5 wrong", "Newly right: 15", "Both wrong: 5"],
    ]  # fmt: skip
    for name, images in (("both-right", 24), ("newly-wrong", 1), ("newly-right", 15), ("both-wrong", 5)):
        (anchor,) = re.findall(f'href="#({name}[^"]*)"', table)
        assert page.count(f'<section id="{anchor}">') == 1
        assert len(captions(page.partition(f'<section id="{anchor}">')[2].partition("</section>")[0])) == images
    assert "the 24 least confident ones" in page


def test_an_image_that_is_gone_is_named() -> None:
    text = section(shown(decision(), frozenset({"test/ant/006.png"})), "Newly right")
    assert "No longer in data/: test/ant/006.png (ant: bee → ant)." in text
    assert len(captions(text)) == 14


def test_excluded_images_are_counted() -> None:
    found = decision(
        replace(BETTER, seen=sha256(100, 101)), replace(CHAMPION, seen=sha256(101), classes=("ant", "bee"))
    )
    assert [row[1] for row in rows(section(shown(found), "Excluded test images"))] == ["2", "1", "2", "59"]


def test_classes_of_one_model_are_listed_apart() -> None:
    found = decision(replace(BETTER, classes=("ant", "bee", "dog")), replace(CHAMPION, classes=("ant", "cat")))
    listed = rows(section(shown(found), "Classes known to only one model"))
    assert [row[:3] for row in listed] == [
        ["cat", "version 5", ""],
        ["bee", "version 7", "60"],
        ["dog", "version 7", "0"],
    ]
    assert listed[1][3].startswith("96.7 % (")
    assert listed[2][3] == "unknown"
    assert "None." in section(shown(decision()), "Classes known to only one model")


def test_drift_is_listed_and_warned_of() -> None:
    drift = Check("drift of colours", "warn", "0.200", "at most 0.1", "The data differ in colours.")
    text = section(
        shown(replace(decision(), drift=(drift, replace(drift, verdict="pass", reason="Equal.")))), "Data drift"
    )
    assert text.partition('<ul class="warnings">')[2].partition("</ul>")[0].split("\n")[1:-1] == [
        "<li>The data differ in colours.</li>"
    ]
    assert [row[0] for row in rows(text)] == ["! warning", "✓ pass"]
    assert "Not measured." in section(shown(decision()), "Data drift")


def test_a_first_model_has_nothing_to_be_compared_with() -> None:
    page = shown(decision(champion=None))
    check(page)
    assert headline(page).startswith("Version 7 becomes the first champion")
    assert "top-1 (95 %)" in figures(page)
    for heading in ("Changes by class", "Newly", "Data drift", "Classes known"):
        assert f"<h2>{heading}" not in page


def test_a_page_without_images_is_complete() -> None:
    page = shown(decision(replace(BETTER, seen=sha256(*range(180)))))
    check(page)
    assert figures(page)["decision"] == "refused"
    assert "Newly right" not in page


def test_the_decision_page_escapes_names() -> None:
    evil = '<b onclick="alert(1)">&amp;\''
    wrong = dict.fromkeys(range(20), evil)
    classes = ("ant", "bee", "cat", evil)
    found = decision(replace(BETTER, version="<i>", classes=classes), answering(CHAMPION, predicted=wrong))
    change = replace(found.changes[0], label=evil)
    found = replace(found, changes=(change, *found.changes[1:]), sentence=evil, dropped=(evil,))
    page = shown(found)
    gone = shown(found, frozenset(image.path for image in found.newly_right))
    for text in (page, gone):
        check(text)  # knows no attribute "onclick"
        assert "<b" not in text.replace("<body>", "")
        assert "<i>" not in text
    assert rows(section(page, "Changes by class"))[0][0] == evil
    assert f"ant: {evil} → ant" in captions(page)


def test_the_decision_page_is_complete_and_has_the_same_bytes_each_time() -> None:
    page = shown(decision())
    check(page)
    assert page == shown(decision())


def test_the_thumbnails_of_the_data_report_fit(tmp_path: Path) -> None:
    Image.new("RGB", (12, 6), "white").save(tmp_path / "wide.png")
    with Image.open(io.BytesIO(thumbnails.thumbnail(tmp_path / "wide.png"))) as picture:
        assert (picture.size, picture.format) == ((64, 64), "PNG")
        assert [picture.getpixel((32, y)) for y in (4, 32)] == [(0, 0, 0), (255, 255, 255)]
    found = decision()
    page = html(found, lambda path: thumbnails.thumbnail(tmp_path / path))
    assert page.count("No longer in data/") == 3  # of the sections with images: newly right, both wrong, both right


def test_slices_are_listed_and_the_one_that_lost_is_named() -> None:
    def bright(model):
        return replace(model, predictions=model.predictions.assign(brightness=[float(i) for i in range(180)]))

    page = shown(decision(bright(judged("7", [*range(20), *range(120, 130)])), bright(CHAMPION)))
    part = section(page, "Changes by slice")
    assert rows(part)[0][:5] == ["brightness above 119 of 255", "60", "100.0 % → 83.3 %", "0", "10"]
    assert "Worst slice: brightness above 119 of 255, 100.0 % to 83.3 %, more than chance explains." in words(part)
    assert "No slice is shown to have lost" in words(shown(decision(bright(BETTER), bright(CHAMPION))))
    assert section(shown(decision()), "Changes by slice") == ""
