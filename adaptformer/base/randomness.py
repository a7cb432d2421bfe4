"""Random numbers as functions of a key, so that no generator's state is ever carried, saved or restored.

A key is a purpose and some integers, such as ("crop", seed, phase, epoch). Its numbers depend neither on the number of
workers, nor on the order of calls, nor on resumption.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
from numpy.typing import NDArray


def generator(purpose: str, *key: int) -> np.random.Generator:
    """Return numpy's counter-based Philox generator for a key.

    Philox's own key is 128 bits of a hash over purpose and integers. numpy's SeedSequence would not do: it treats 2**32
    like the two integers 0 and 1, and drops zeros at the end.
    """
    digest = hashlib.sha256(json.dumps([purpose, *map(int, key)]).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "big")))


def uniform(shape: tuple[int, ...], purpose: str, *key: int) -> NDArray[np.float64]:
    """Return numbers uniform in [0, 1) of the given shape."""
    return generator(purpose, *key).random(shape)


def permutation(n: int, purpose: str, *key: int) -> NDArray[np.int64]:
    """Return a random order of 0 … n-1."""
    return generator(purpose, *key).permutation(n)


def seed_torch(purpose: str, *key: int) -> None:
    """Seed torch's global generators, from which dropout and initialisation draw."""
    import torch  # takes seconds, and the gate, which only resamples, does not need it

    torch.manual_seed(int(generator(purpose, *key).integers(2**63)))
