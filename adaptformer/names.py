"""Names of classes, wherever they come from: folders, lists, shards, params, adapter files, ONNX metadata.

A class name becomes the name of a folder in data/ and below `predict --sort-into`, and is shown in terminals and pages.
So it must be one part of a path, on every system that the project runs on, and hold nothing that a reader cannot see.
"""

from __future__ import annotations

import unicodedata

LONGEST = 255
"""Bytes of UTF-8 that file systems allow for a name."""
_JOINERS = {"\u200c", "\u200d"}
"""ZWNJ and ZWJ are letters of Persian and Indic words and parts of emoji; all other format characters are refused."""
_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode's categories of control, format and surrogate characters and of line separators."""


def class_name_fault(name: object) -> str | None:
    """Return why `name` cannot be the name of a class, in words that follow "the class name ...", or None."""
    if not isinstance(name, str):
        return "is no text"
    faults = {
        "is empty": not name,
        "begins or ends with a space": name != name.strip(),
        "has characters that cannot be shown": unseen(name),
        "has a slash": "/" in name,
        "begins with a dot, which hides folders": name.startswith("."),
        f"is longer than {LONGEST} bytes": len(name.encode(errors="replace")) > LONGEST,
    }
    return next((reason for reason, present in faults.items() if present), None)


def unseen(text: str) -> bool:
    """Return whether a text has characters that no reader sees or that steer a terminal."""
    return any(unicodedata.category(sign) in _UNSEEN and sign not in _JOINERS for sign in text)


def shown(text: str) -> str:
    r"""Return a text as one safe line: characters that cannot be shown as escapes such as \x1b or \udcff."""
    return "".join(sign.encode("unicode_escape").decode() if unseen(sign) else sign for sign in text)
