from __future__ import annotations

import pytest

from adaptformer.data import groups


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (None, ["", "", ""]),
        (r"p\d+", ["p1", "p12", ""]),
        (r"/(p\d)", ["p1", "p1", ""]),
        (r"/(?:p(\d+)|no)", ["1", "12", ""]),
    ],
)
def test_the_group_is_what_the_pattern_captures_or_matches(pattern: str | None, expected: list[str]) -> None:
    assert groups.of(["cat/p1_a.png", "dog/p12_b.png", "dog/no.png"], pattern) == expected


def test_groups_are_numbered_and_an_image_in_none_is_one_by_itself() -> None:
    found = groups.codes(["a", "", "b", "a", ""])
    assert found is not None
    assert found.tolist() == [0, 1, 2, 0, 3]
    assert groups.codes(["a", "", "b", ""]) is None
    assert groups.codes([]) is None
