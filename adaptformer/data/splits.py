"""Which images leave train for a split that is missing: stratified, seeded, and steady when images are added."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence


def choose(labels: Sequence[str], hashes: Sequence[str], fraction: float, seed: int) -> list[bool]:
    """Tell for each image, by its label and the sha256 of its bytes, whether it goes to the new split.

    Of each class's n distinct images round(fraction * n) are chosen, at least one and never all; a class with a single
    distinct image gives none. The order of choice is that of sha256("seed:sha256"): exact duplicates within a class
    stay on one side, neither the order of files nor their names matter, and an added image moves few others.
    """
    images = list(zip(labels, hashes, strict=True))
    distinct: dict[str, set[str]] = defaultdict(set)
    for label, sha256 in images:
        distinct[label].add(sha256)
    chosen = {label: _first(group, fraction, seed) for label, group in distinct.items()}
    return [sha256 in chosen[label] for label, sha256 in images]


def _first(hashes: set[str], fraction: float, seed: int) -> set[str]:
    count = min(max(round(fraction * len(hashes)), 1), len(hashes) - 1)
    return set(sorted(hashes, key=lambda sha256: hashlib.sha256(f"{seed}:{sha256}".encode()).digest())[:count])
