"""Names of classes, wherever they come from: folders, lists, shards, params, adapter files, ONNX metadata.

A class name becomes the name of a folder in data/ and below `predict --sort-into`, and is shown in terminals and pages.
So it must be one part of a path, on every system that the project runs on, and hold nothing that a reader cannot see.
"""

from __future__ import annotations

import re
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


def shown_lines(text: str) -> str:
    """Return lines of text with characters that cannot be shown as escapes; line ends and tabs stay."""
    return re.sub(r"[^\n\t]+", lambda found: shown(found[0]), text)


def storable(text: str) -> str:
    r"""Return a text that is valid UTF-8: bytes of a file name that are none become escapes such as \udcff."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def restored(text: str) -> str:
    r"""Return the text of which `storable` made this one: \udc80 to \udcff are bytes of a file name again."""
    return re.sub(r"\\udc([89a-f][0-9a-f])", lambda found: chr(0xDC00 + int(found[1], 16)), text)
