"""Groups: images of one patient, camera or video. They are not independent, so they belong in one split."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray


def of(paths: Iterable[str], pattern: str | None) -> list[str]:
    """Return the group of each image by its path CLASS/FILE.

    The group is the text that the first capture group of `pattern` (`data.group_pattern`) matches, or its whole match
    if it has no capture group. It is "" (no group) for an image that does not match, and for all images if there is no
    pattern.
    """
    if pattern is None:
        return ["" for _ in paths]
    matches = (re.search(pattern, path) for path in paths)
    return ["" if match is None else match[min(1, match.re.groups)] or "" for match in matches]


def codes(names: Sequence[str]) -> NDArray[np.int64] | None:
    """Return a number for each image's group [N], equal within a group; an image in no group has a number of its own.

    Returns None if no two images share a group: as far as is known, the images are then independent of each other.
    """
    table: dict[str, int] = {}
    numbers = [table.setdefault(name or f"/{number}", len(table)) for number, name in enumerate(names)]
    return np.array(numbers, np.int64) if len(table) < len(numbers) else None
