"""Names of classes, groups and files, wherever they come from: folders, lists, shards, params, adapter files, ONNX.

A class name becomes the name of a folder in data/ and below `predict --sort-into`, and is shown in terminals and pages.
So it must be one part of a path, on every system that the project runs on, without characters that no reader can see.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath

from adaptformer.base.errors import UserError

LONGEST = 255
"""Bytes of UTF-8 that file systems allow for a name."""
LONGEST_GROUP = 150
"""Bytes of a group's name, which the names of its files begin with."""
LITTER = frozenset(
    {
        "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "#recycle",
        "$recycle.bin", "system volume information", "lost+found", "picasa.ini",
    }
)  # fmt: skip
"""Files and folders that systems and photo programs leave behind, in lower case."""
_LITTER_ENDINGS = (".lrdata", ".lrcat", ".lrcat-data", ".xmp", "@synoeastream", "@synoresource")
"""Endings of files that Lightroom and Synology's systems leave behind."""
_JOINERS = {"\u200c", "\u200d"}
"""ZWNJ and ZWJ are letters of Persian and Indic words and parts of emoji; all other format characters are refused."""
_STEERING = {"Cc", "Cs", "Zl", "Zp"}
"""Unicode's categories of control and surrogate characters and of line separators."""
_UNSEEN = {*_STEERING, "Cf"}
"""These and format characters, such as marks of the writing direction."""


def class_name_fault(name: object) -> str | None:
    """Return why `name` cannot be the name of a class, in words that follow "the class name ...", or None."""
    return _fault(name, LONGEST)


def group_name_fault(name: object) -> str | None:
    """Return why `name` cannot be the name of a group, in words that follow "the group ...", or None."""
    fault = _fault(name, LONGEST_GROUP)
    if fault is None and isinstance(name, str) and ("__" in name or name.endswith("_")):
        return "has two underscores, or one at its end: two underscores end a group's name in the names of its files"
    return fault


def _fault(name: object, longest: int) -> str | None:
    if not isinstance(name, str):
        return "is no text"
    faults = {
        "is empty": not name,
        "begins or ends with a space": name != name.strip(),
        "has characters that cannot be shown": unseen(name),
        "has a slash": "/" in name,
        "begins with a dot, which hides folders": name.startswith("."),
        "is one that systems or photo programs give to files of their own": ignored(name),
        f"is longer than {longest} bytes": len(name.encode(errors="replace")) > longest,
    }
    return next((reason for reason, present in faults.items() if present), None)


def refuse_class_names(labels: Iterable[object]) -> None:
    """Raise one UserError about all class names that cannot be used; each fault is a note of the exception."""
    faults = []
    alike: dict[str, str] = {}
    for label in sorted(set(labels), key=str):
        if fault := class_name_fault(label):
            faults.append(f"the class name {quoted(label)} {fault}")
        text = str(label)
        other = alike.setdefault(_FRACTION.sub(r"\1", text.strip().casefold()), text)
        if other != text:
            how = (
                "in case or outer spaces"
                if not any(map(_FRACTION.match, (text, other)))
                else "in how a number is written"
            )
            faults.append(f"the class names {quoted(other)} and {quoted(text)} differ only {how}")
    if faults:
        more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        error = UserError(
            faults[0] + more, "give each class one name that can be shown, as a folder may have it, everywhere"
        )
        for fault in faults[1:]:
            error.add_note(fault)
        raise error


def ignored(name: str) -> bool:
    """Return whether a file or folder is hidden, or left behind by a system or a photo program."""
    return name.startswith(".") or name.casefold() in LITTER or name.casefold().endswith(_LITTER_ENDINGS)


def one_form(name: str) -> str:
    """Return a name in Unicode's form NFC: macOS splits an accented letter in two, other systems keep it whole."""
    return unicodedata.normalize("NFC", name)


def unseen(text: str) -> bool:
    """Return whether a text has characters that no reader sees or that steer a terminal."""
    return any(_is_unseen(sign) for sign in text)


def steers(text: str) -> bool:
    """Return whether a text has control characters, line separators, or bytes that are not UTF-8."""
    return any(unicodedata.category(sign) in _STEERING for sign in text)


def shown(text: str) -> str:
    r"""Return a text as one safe line: characters that cannot be shown as escapes such as \x1b or \udcff."""
    return "".join(sign.encode("unicode_escape").decode() if _is_unseen(sign) else sign for sign in text)


def shown_lines(text: str) -> str:
    """Return lines of text with characters that cannot be shown as escapes; line ends and tabs stay."""
    return re.sub(r"[^\n\t]+", lambda found: shown(found[0]), text)


def storable(text: str) -> str:
    r"""Return a text that is valid UTF-8: bytes of a file name that are not become escapes such as \udcff."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def restored(text: str) -> str:
    r"""Return the text from which `storable` made this one: \udc80 to \udcff become bytes of a file name again."""
    return re.sub(r"\\udc([89a-f][0-9a-f])", lambda found: chr(0xDC00 + int(found[1], 16)), text)


def quoted(value: object) -> str:
    """Return a value in quotation marks, as one safe line of about 60 characters at most."""
    text = repr(value)
    return shown(text if len(text) <= _QUOTED else f"{text[: _QUOTED // 2]} ... {text[-10:]}")


def stored(name: str, prefix: str = "") -> str:
    """Return the name that a file gets in data/: `prefix` and `name` in form NFC, at most LONGEST bytes.

    Characters that cannot be shown become underscores, and a name that is too long loses the end of its stem.
    """
    whole = one_form(prefix + "".join("_" if _is_unseen(sign) else sign for sign in name))
    if len(whole.encode()) <= _LONGEST_FILE:
        return whole
    ending = PurePosixPath(whole).suffix if len(PurePosixPath(whole).suffix.encode()) <= _LONGEST_ENDING else ""
    stem = whole[: len(whole) - len(ending)] if ending else whole
    return stem.encode()[: _LONGEST_FILE - len(ending.encode())].decode(errors="ignore") + ending


_QUOTED = 60
_FRACTION = re.compile(r"^(\d+)\.0+$")
"""A whole number as written by a program that stores all numbers as fractions."""
_LONGEST_FILE = LONGEST - 10
"""Leaves room for a number that distinguishes files of the same name."""
_LONGEST_ENDING = 20


def _is_unseen(sign: str) -> bool:
    return unicodedata.category(sign) in _UNSEEN and sign not in _JOINERS
