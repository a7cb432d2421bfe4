"""Choice of the train images that form a missing split: stratified, seeded, and stable when images are added."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence

from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def choose(
    labels: Sequence[str], hashes: Sequence[str], fraction: float, seed: int, groups: Sequence[str] | None = None
) -> list[bool]:
    """Return whether each image goes to the new split, by its label and the sha256 of its bytes.

    Of each class's n distinct images round(fraction * n) are chosen, at least one and never all; a class with a single
    distinct image gives none. Images are chosen in the order of sha256("seed:sha256"): exact duplicates within a class
    stay together, the order and names of files do not matter, and an added image changes the split of few others.

    Images of one of the `groups` ("" is none) also stay together. Groups are then taken in the order of their names'
    hashes, and one is chosen if that brings the classes' shares closer to the fraction.
    """
    images = list(zip(labels, hashes, strict=True))
    if groups is not None and any(groups):
        return _by_group(images, groups, fraction, seed)
    distinct: dict[str, set[str]] = defaultdict(set)
    for label, sha256 in images:
        distinct[label].add(sha256)
    hashes_of = {label: _first(group, fraction, seed) for label, group in distinct.items()}
    return [sha256 in hashes_of[label] for label, sha256 in images]


def share(name: str, seed: int) -> float:
    """Return a number in [0, 1) that depends only on a name (an image's sha256 or its group) and the seed."""
    return int.from_bytes(_order(name, seed)[:7], "big") / 2**56


def _first(hashes: set[str], fraction: float, seed: int) -> set[str]:
    count = min(max(round(fraction * len(hashes)), 1), len(hashes) - 1)
    return set(sorted(hashes, key=lambda sha256: _order(sha256, seed))[:count])


def _order(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()


def units(hashes: Sequence[str], groups: Sequence[str]) -> list[str]:
    """Return for each image the name of its unit: images that equal bytes or a common group connect, directly or not.

    The name is the smallest group name in the unit, or the sha256 of images in no group.
    """
    names = sorted({*hashes, *(f"group {group}" for group in groups if group)})
    number = {name: index for index, name in enumerate(names)}
    ends = [
        (number[sha256], number[f"group {group}" if group else sha256])
        for sha256, group in zip(hashes, groups, strict=True)
    ]
    rows, columns = zip(*ends, strict=True)
    links = coo_array(([1] * len(ends), (rows, columns)), shape=(len(names), len(names)))
    component = connected_components(links, directed=False)[1]
    first: dict[int, str] = {}
    for name, index in sorted(zip(names, component, strict=True), key=lambda pair: not pair[0].startswith("group ")):
        first.setdefault(index, name)
    return [first[component[number[sha256]]] for sha256 in hashes]


def _by_group(images: Sequence[tuple[str, str]], groups: Sequence[str], fraction: float, seed: int) -> list[bool]:
    together = units([sha256 for _, sha256 in images], groups)
    members: dict[str, Counter[str]] = defaultdict(Counter)
    for (label, _), unit in zip(images, together, strict=True):
        members[unit][label] += 1
    total = Counter(label for label, _ in images)
    missing = {label: fraction * count for label, count in total.items()}
    left = dict(total)
    selected = set()
    for unit in sorted(members, key=lambda name: _order(name, seed)):
        counts = members[unit]
        gain = sum(abs(missing[label]) - abs(missing[label] - count) for label, count in counts.items())
        if gain > 0 and all(left[label] > count for label, count in counts.items()):
            selected.add(unit)
            for label, count in counts.items():
                missing[label] -= count
                left[label] -= count
    if not selected:
        selected = _least_bad(members, missing, left, seed)
    return [unit in selected for unit in together]


def _least_bad(
    members: dict[str, Counter[str]], missing: dict[str, float], left: dict[str, int], seed: int
) -> set[str]:
    """Return, for each class, the unit whose size is closest to the missing number, if train keeps some of the class.

    Without this, a few large groups would leave the new split empty.
    """
    selected: set[str] = set()
    for label in sorted(missing):
        if any(members[unit][label] for unit in selected):
            continue
        fitting = [
            unit
            for unit, counts in members.items()
            if counts[label] and unit not in selected and all(left[other] > count for other, count in counts.items())
        ]
        if fitting:
            best = min(fitting, key=lambda unit: (abs(missing[label] - members[unit][label]), _order(unit, seed)))
            selected.add(best)
            for other, count in members[best].items():
                left[other] -= count
    return selected
