"""Groups: images of one patient, camera or video, which tell a model about each other and belong in one split."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray


def of(paths: Iterable[str], pattern: str | None) -> list[str]:
    """Return the group of each image by its path CLASS/FILE: the pattern's first group, or all that it matches.

    An image that the pattern (`data.group`) does not match is in no group, and so is every image without a pattern: "".
    """
    if pattern is None:
        return ["" for _ in paths]
    found = (re.search(pattern, path) for path in paths)
    return ["" if match is None else match[min(1, match.re.groups)] or "" for match in found]


def codes(names: Sequence[str]) -> NDArray[np.int64] | None:
    """Return a number for each image's group [N], the same within a group; an image in no group is one by itself.

    None if no two images share a group: then images are independent of each other as far as it is known.
    """
    table: dict[str, int] = {}
    found = [table.setdefault(name or f"/{number}", len(table)) for number, name in enumerate(names)]
    return np.array(found, np.int64) if len(table) < len(found) else None
