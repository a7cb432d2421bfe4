"""The checksum at the end of an ONNX file: a last entry of its metadata with the sha256 of all bytes before it.

A protobuf message followed by one more field is a valid message with that field, so every reader of ONNX files accepts
the file. `head -c -88 model.onnx | sha256sum` prints the same hash.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from pathlib import Path

KEY = b"adaptformer.sha256"
"""The key of the entry."""
_DIGITS = 64
# metadata_props is field 14 of ModelProto, key and value are fields 1 and 2 of its entries; 2 is "bytes with a length".
_ENTRY = bytes([1 << 3 | 2, len(KEY)]) + KEY + bytes([2 << 3 | 2, _DIGITS])
_HEAD = bytes([14 << 3 | 2, len(_ENTRY) + _DIGITS]) + _ENTRY
LENGTH = len(_HEAD) + _DIGITS
"""Length of the whole entry in bytes."""


def appended(content: bytes) -> bytes:
    """Return a serialised model with its checksum appended."""
    return content + _HEAD + hashlib.sha256(content).hexdigest().encode()


def matches(path: Path) -> bool | None:
    """Return whether an ONNX file matches its checksum, or None if it does not end with one.

    Raises OSError for a file that cannot be read.
    """
    with path.open("rb") as file:
        length = os.fstat(file.fileno()).st_size - LENGTH
        if length <= 0:
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            if mapped[length : length + len(_HEAD)] != _HEAD:
                return None
            with memoryview(mapped) as view, view[:length] as content:
                return hashlib.sha256(content).hexdigest().encode() == mapped[-_DIGITS:]
