"""The sample data set: scikit-learn's handwritten digits as PNG files with the same bytes on every machine.

Versions of image libraries write different bytes, so the code here writes the PNG files itself, and the hash in the
committed data.dvc stays valid.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from adaptformer.base.errors import UserError
from adaptformer.curation.importing.replacement import Change, replacing_folder
from adaptformer.data import layout, splits
from adaptformer.data.layout import occupied

DVC_DIGEST = "f1ed8367aee03c1b4bd813b2cf4c9bc4.dir"
"""The hash that `dvc add data` records for the sample; in data.dvc it shows that data/ is the sample."""
REGISTERED_AS = "digits"
"""The registered model's name for the sample in params.yaml, which models of a user's own data should not have."""

TEST_FRACTION = 0.2
_IMAGES = 1797


def write_sample(data: Path, change: Change | None = None) -> None:
    """Write the 1797 digits to `data`: 32 x 32 grey, `<split>/<digit>/<index>.png`, a fifth of each digit in test.

    `change` is what else belongs to it. Raises UserError when `data` exists already.
    """
    if occupied(data):
        raise UserError(f"{data}/ is not empty", f"move {data}/ away, then run `adaptformer data sample` again")
    from sklearn.datasets import load_digits  # takes a second to import

    digits = load_digits()
    pictures = [_png(_enlarged(values)) for values in digits.images]
    labels = [str(digit) for digit in digits.target]
    hashes = [hashlib.sha256(content).hexdigest() for content in pictures]
    tests = splits.choose(labels, hashes, TEST_FRACTION, seed=0)
    with replacing_folder(data, (lambda: change) if change else None) as new_data:
        for index, (content, label, test) in enumerate(zip(pictures, labels, tests, strict=True)):
            folder = new_data / ("test" if test else "train") / label
            folder.mkdir(parents=True, exist_ok=True)
            (folder / _file_name(index)).write_bytes(content)


def is_in(data: Path) -> bool:
    """Return whether `data` holds the sample and nothing else, judged by the names of its folders and files."""
    entries, faults = layout.entries(data) if data.is_dir() else ([], {})
    names = {entry.path.rpartition("/")[2] for entry in entries}
    return (
        not faults
        and len(entries) == _IMAGES
        and names == {_file_name(index) for index in range(_IMAGES)}
        and {entry.label for entry in entries} == set("0123456789")
    )


def _file_name(index: int) -> str:
    return f"{index:04d}.png"


def _enlarged(values: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Turn [8, 8] whole numbers 0..16 into [32, 32] grey values 0..255, in integer arithmetic only."""
    grey = values.astype(np.int64) * 255 // 16
    return grey.astype(np.uint8).repeat(4, axis=0).repeat(4, axis=1)


def _png(grey: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    """Return [height, width] grey values as a PNG of one uncompressed block, so height * (width + 1) < 65536."""
    height, width = grey.shape
    rows = b"".join(b"\0" + row.tobytes() for row in grey)  # each row begins with its filter: none
    stored = struct.pack("<BHH", 1, len(rows), len(rows) ^ 0xFFFF) + rows  # RFC 1951, 3.2.4: last block, not compressed
    stream = b"\x78\x01" + stored + struct.pack(">I", zlib.adler32(rows))  # RFC 1950
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)  # 8 bits, grey, not interlaced
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", stream) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
