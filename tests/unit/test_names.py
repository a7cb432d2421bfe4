"""Names of classes and their form in a terminal."""

import pytest

from adaptformer import names


@pytest.mark.parametrize(
    "name", ["cat", "Ä b", "001", "NA", "a.b", "می‌خواهم", "👩‍🚀", "=1", "C:", "a\\b", "x" * 255, "字" * 85]
)
def test_names_that_can_be_stored_and_shown_are_classes(name):
    assert names.class_name_fault(name) is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "empty"), (" a", "space"), ("a ", "space"), (".", "dot"), ("..", "dot"), (".hidden", "dot"),
        ("../x", "slash"), ("a/b", "slash"), ("a\x00b", "shown"), ("a\x1b[2J", "shown"), ("a\nb", "shown"),
        ("a\u202eb", "shown"), ("a\udcff", "shown"), ("x" * 256, "longer"), ("字" * 86, "longer"),
        (1, "no text"), (None, "no text"), (float("nan"), "no text"), ({"a": 1}, "no text"),
    ],
)  # fmt: skip
def test_other_names_are_refused_with_the_reason(name, reason):
    assert reason in names.class_name_fault(name)


def test_what_cannot_be_shown_is_escaped():
    assert names.shown("a\x1b[2Jb\n\udcff\u202eä\u200d") == "a\\x1b[2Jb\\n\\udcff\\u202eä\u200d"


@pytest.mark.parametrize("name", ["cat.png", "é", "\udcff\udc80.png", "a\\b", "\\u1234"])
def test_bytes_of_a_file_name_can_be_stored_and_found_again(name: str) -> None:
    stored = names.storable(name)
    assert stored.encode()
    assert names.restored(stored) == name
