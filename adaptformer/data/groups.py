"""Groups: images of one patient, camera or video, which tell a model about each other and belong in one split."""

from __future__ import annotations

import re
from collections.abc import Iterable


def of(paths: Iterable[str], pattern: str | None) -> list[str]:
    """Return the group of each image by its path CLASS/FILE: the pattern's first group, or all that it matches.

    An image that the pattern (`data.group`) does not match is in no group, and so is every image without a pattern: "".
    """
    if pattern is None:
        return ["" for _ in paths]
    found = (re.search(pattern, path) for path in paths)
    return ["" if match is None else match[min(1, match.re.groups)] or "" for match in found]
