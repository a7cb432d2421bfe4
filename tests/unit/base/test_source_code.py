"""Which edits of source code count."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from adaptformer.base import source_code

SOURCE = '''
"""A module."""
# A comment.
LIMIT = 3
"""What it bounds."""


def doubled(value: int) -> int:
    """Return twice the value."""
    return value * 2


class Empty:
    """Nothing."""
'''


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("# A comment.", "# Another comment."),
        ("# A comment.\n", ""),
        ("A module.", "Another text."),
        ("What it bounds.", "Its bound."),
        ("Return twice the value.", "Return the value, doubled."),
        ("Nothing.", "Still nothing."),
        ("value * 2", "(value *\n        2)"),
    ],
)
def test_comments_docstrings_and_layout_do_not(before: str, after: str) -> None:
    assert before in SOURCE
    assert source_code.meaning(SOURCE.replace(before, after)) == source_code.meaning(SOURCE)


@pytest.mark.parametrize(
    ("before", "after"), [("LIMIT = 3", "LIMIT = 4"), ("value * 2", "value * 3"), ("doubled", "twice")]
)
def test_every_other_change_of_the_code_changes_its_hash(before: str, after: str) -> None:
    assert source_code.meaning(SOURCE.replace(before, after)) != source_code.meaning(SOURCE)


def test_a_text_that_is_used_counts() -> None:
    assert source_code.meaning("x = 'a'") != source_code.meaning("x = 'b'")


def test_files_that_are_no_python_count_by_their_bytes(tmp_path: Path) -> None:
    (tmp_path / "page.html.j2").write_bytes(b"# no comment")
    (tmp_path / "module.py").write_text("# a comment\nx = 1\n")
    assert source_code.sha256(tmp_path / "page.html.j2") == hashlib.sha256(b"# no comment").hexdigest()
    assert source_code.sha256(tmp_path / "module.py") == hashlib.sha256(b"x = 1").hexdigest()
