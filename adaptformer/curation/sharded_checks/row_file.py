"""A file of rows of equal size, of which only the requested ones are read into memory."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptformer.base import files


class Rows:
    """Rows of one shape and type, one after the other in a file; a slice or an array of indices reads some of them."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: type[np.generic]) -> None:
        self._path, self._shape, self._dtype = path, shape, np.dtype(dtype)
        self._bytes = math.prod(shape) * self._dtype.itemsize

    def __len__(self) -> int:
        return self._path.stat().st_size // self._bytes

    def append(self, rows: NDArray[Any]) -> None:
        """Append rows [N, ...] to the file."""
        with files.refusals(self._path), self._path.open("ab") as file:
            file.write(np.ascontiguousarray(rows, self._dtype).tobytes())

    def __getitem__(self, key: slice | NDArray[np.int64], /) -> NDArray[Any]:
        """Return the rows of a slice with step 1, or those at some indices, in that order.

        Raises EOFError for an index whose row is not there in full.
        """
        if isinstance(key, slice):
            start, stop, _ = key.indices(len(self))
            count = max(stop - start, 0) * math.prod(self._shape)
            return np.fromfile(self._path, self._dtype, count, offset=start * self._bytes).reshape(-1, *self._shape)
        rows = np.empty((len(key), *self._shape), self._dtype)
        with self._path.open("rb") as file:
            for row, index in zip(rows, key.tolist(), strict=True):
                if os.preadv(file.fileno(), [row.data], index * self._bytes) != row.nbytes:
                    raise EOFError(f"{self._path} ends before its row {index} does")
        return rows
