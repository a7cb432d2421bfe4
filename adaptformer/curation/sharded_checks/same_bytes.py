"""Search for exact copies of images by their hashes, in memory that does not grow with their number."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

AT_ONCE = 4_000_000
"""Hashes that are compared in one go; each takes 32 bytes, together with its number."""


def copies(hashes: Callable[[], Iterable[NDArray[np.uint8]]], images: int) -> NDArray[np.int64]:
    """Return the numbers [D, 2] of each image that repeats an earlier one, and of the first equal image, sorted.

    Each call of `hashes` yields the sha256 [N, 32] of all images in order; only half of each hash is compared.
    """
    rounds = max(1, math.ceil(images / AT_ONCE))
    copies_of_rounds = [np.zeros((0, 2), np.int64)]
    for round_number in range(rounds):
        words, numbers, count = [np.zeros((0, 2), np.uint64)], [np.zeros(0, np.int64)], 0
        for block in hashes():
            halves = np.ascontiguousarray(block[:, :16]).view(np.uint64)
            mine = np.flatnonzero(halves[:, 0] % rounds == round_number)
            words.append(halves[mine])
            numbers.append(mine + count)
            count += len(block)
        word, number = np.concatenate(words), np.concatenate(numbers)
        order = np.lexsort((word[:, 1], word[:, 0]))  # stable: of equal hashes the first image stays first
        word, number = word[order], number[order]
        repeated = np.concatenate([[False], (word[1:] == word[:-1]).all(axis=1)])[: len(word)]
        first = number[np.maximum.accumulate(np.where(repeated, 0, np.arange(len(word))))]
        copies_of_rounds.append(np.stack([number[repeated], first[repeated]], axis=1))
    answer = np.concatenate(copies_of_rounds)
    return answer[np.argsort(answer[:, 0])]
