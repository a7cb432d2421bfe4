from __future__ import annotations

import pytest

from adaptformer.gate import wording


@pytest.mark.parametrize(
    ("difference", "text"),
    [(0.003, "+0.3"), (-0.005, "−0.5"), (0.0, "0.0"), (0.0002, "+0.02"), (-0.0007, "−0.07"), (0.1, "+10.0")],
)  # fmt: skip
def test_points_have_a_sign_and_enough_digits(difference: float, text: str) -> None:
    assert wording.points(difference) == text
    assert wording.unsigned(difference) == text.lstrip("+−")


@pytest.mark.parametrize(("p", "text"), [(0.0009, "p < 0.001"), (0.001, "p = 0.001"), (1.0, "p = 1.000")])
def test_small_p_values_have_a_bound(p: float, text: str) -> None:
    assert wording.chance(p) == text


def test_counts_and_names_read_as_english() -> None:
    assert [wording.counted(n, "image") for n in (0, 1, 1024)] == ["0 images", "1 image", "1,024 images"]
    assert wording.counted(2, "class") == "2 classes"
    assert wording.named(["a"]) == "the class a"
    assert wording.named(list("abcdefg")) == "the classes a, b, c, d, e and 2 more"


def test_five_names_are_all_given_and_a_tenth_of_a_point_has_one_digit() -> None:
    assert wording.named(list("abcde")) == "the classes a, b, c, d, e"
    assert wording.named(list("abcdef")) == "the classes a, b, c, d, e and 1 more"
    assert wording.points(0.001) == "+0.1"


def test_a_sentence_becomes_a_clause_and_keeps_its_other_stops_and_capitals() -> None:
    assert wording.clause("Its top-1 fell. McNemar's test fails.") == "its top-1 fell. McNemar's test fails"
