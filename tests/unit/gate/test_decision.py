from __future__ import annotations

import json
import math
from dataclasses import replace

from two_models import BETTER, BOUNDS, CHAMPION, decision, reason

from adaptformer.gate.decision import Check, markdown, table
from adaptformer.gate.judging import decide


def test_the_decision_is_json_without_nan_and_the_same_each_time() -> None:
    shuffled = replace(BETTER, predictions=BETTER.predictions.sample(frac=1, random_state=0), parity=math.nan)
    texts = {
        json.dumps(decision(model).to_dict(), allow_nan=False, sort_keys=True)
        for model in (shuffled, replace(BETTER, parity=math.nan))
    }
    assert len(texts) == 1
    content = json.loads(texts.pop())
    assert content["left_out"] == {"seen_by_challenger": 0, "seen_by_champion": 0, "seen": 0, "other_classes": 0}
    assert content["checks"][0]["verdict"] == "pass"
    assert [change["label"] for change in content["changes"]] == ["ant", "bee", "cat"]
    assert content["numbers"]["gain"] == 0.0833333


DRIFT = Check("drift of colours", "warn", "0.200", "at most 0.1", "The data differ.")


def test_drift_goes_along_and_decides_nothing() -> None:
    found = decide(BETTER, CHAMPION, BOUNDS, [replace(DRIFT, verdict="fail")], earlier_looks=0)
    assert found.promoted
    assert found.drift == (replace(DRIFT, verdict="fail"),)
    assert decide(BETTER, None, BOUNDS, [DRIFT], earlier_looks=0).drift == (DRIFT,)


def test_the_table_is_aligned_and_ends_with_the_sentence() -> None:
    found = replace(decision(replace(BETTER, megabytes=9.0)), drift=(DRIFT,))
    lines = table(found).splitlines()
    start = lines[0].index("value")
    rows = {line[6:start].strip(): line for line in lines if line[:4] in ("pass", "fail", "warn", "info")}
    assert list(rows) == [check.name for check in (*found.checks, DRIFT)]
    assert rows["size"].startswith("fail  size")
    assert rows["size"][start:].startswith("4.50 times  ")
    looks = f"looks at these test images: {reason(found, 'looks at these test images')}"
    flips = f"newly wrong: {reason(found, 'newly wrong')}"
    told = [flips, f"size: {reason(found, 'size')}", looks, f"{DRIFT.name}: The data differ."]
    assert lines[1 + len(rows) :] == ["", *told, "", found.sentence], "only those that did not pass have a reason"


def test_a_table_without_reasons_has_one_blank_line() -> None:
    found = decision(champion=None)
    assert {check.verdict for check in found.checks} == {"pass"}
    assert table(found).splitlines()[1 + len(found.checks) :] == ["", found.sentence]


def test_markdown_says_the_same_and_takes_no_name_for_markup() -> None:
    found = decision(replace(BETTER, classes=("ant", "bee")), replace(CHAMPION, classes=("ant", "bee", "*c|at*\n<b>")))
    text = markdown(found)
    assert text.splitlines()[0].startswith("**Version 7 does not replace version 5: ")
    assert r"the class \*c\|at\* \<b\>, which" in text
    head, _, *rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert [cell.strip() for cell in head.split("|")] == ["", "", "check", "value", "bound", "reason", ""]
    assert len(rows) == len(found.checks)
