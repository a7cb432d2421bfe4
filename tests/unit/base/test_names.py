"""Names of classes and their form in a terminal."""

import pytest

from adaptformer.base import names
from adaptformer.base.errors import UserError


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
        ("Thumbs.db", "of their own"), ("@eaDir", "of their own"),
        (1, "no text"), (None, "no text"), (float("nan"), "no text"), ({"a": 1}, "no text"),
    ],
)  # fmt: skip
def test_other_names_are_refused_with_the_reason(name, reason):
    assert reason in names.class_name_fault(name)


@pytest.mark.parametrize(
    ("name", "reason"),
    [(".p1", "dot"), ("a/b", "slash"), ("a__b", "underscores"), ("a_", "underscore"), ("g" * 151, "150 bytes")],
)
def test_groups_are_named_as_classes_and_leave_room_for_their_files(name, reason):
    assert names.group_name_fault("p_1") is None
    assert reason in names.group_name_fault(name)


def test_all_class_names_that_cannot_be_used_are_told_at_once():
    names.refuse_class_names(["cat", "dog"])
    with pytest.raises(UserError, match="and 3 more") as caught:
        names.refuse_class_names(["..", "Dog", "dog", "a\x1bb", "c" * 300])
    said = " ".join([caught.value.cause, *caught.value.__notes__])
    assert "\x1b" not in said
    assert all(part in said for part in ("'..' begins with a dot", "'Dog' and 'dog' differ", "longer than 255"))


def test_numbers_that_are_written_in_two_ways_are_one_class_by_mistake():
    names.refuse_class_names(["0", "1", "01", "1.5"])
    with pytest.raises(UserError, match=r"'0' and '0\.0' differ only in how a number is written"):
        names.refuse_class_names(["0", "0.0", "1"])


def test_files_get_names_that_can_be_stored_and_shown():
    assert names.stored("a b.png") == "a b.png"
    assert names.stored("a\x1b\udcff\n.png", "g__") == "g__a___.png"
    assert names.stored("\u0627\u200c.png") == "\u0627\u200c.png"
    long = names.stored("字" * 100 + ".jpeg")
    assert long.endswith("字.jpeg")
    assert 240 <= len(long.encode()) <= 245


def test_what_cannot_be_shown_is_escaped():
    assert names.shown("a\x1b[2Jb\n\udcff\u202eä\u200d") == "a\\x1b[2Jb\\n\\udcff\\u202eä\u200d"


@pytest.mark.parametrize("name", ["cat.png", "é", "\udcff\udc80.png", "a\\b", "\\u1234"])
def test_bytes_of_a_file_name_can_be_stored_and_found_again(name: str) -> None:
    stored = names.storable(name)
    assert stored.encode()
    assert names.restored(stored) == name
