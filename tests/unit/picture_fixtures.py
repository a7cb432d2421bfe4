"""Small pictures and data folders, for the tests of data/ and curation/."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adaptformer.config.params import DataParams
from adaptformer.data.preprocessing import ImageContract

Picture = Callable[..., bytes]


def data_params(**changes: Any) -> DataParams:
    """The params section `data` of a test."""
    values: dict[str, Any] = {
        "name": "photos", "date": None, "validation_fraction": 0.25, "test_fraction": 0.2, "group_pattern": None,
        "seed": 0, "max_file_mb": 256, "max_megapixels": 120,
    }  # fmt: skip
    return DataParams.model_validate({**values, **changes})


def _picture(seed: int = 0, width: int = 8, height: int = 6, **save: Any) -> bytes:
    """Encode pixels that depend on the seed alone; PNG unless told."""
    needed = width * height * 3
    stream = b"".join(hashlib.sha256(f"{seed}:{i}".encode()).digest() for i in range(needed // 32 + 1))
    pixels = np.frombuffer(stream[:needed], np.uint8).reshape(height, width, 3)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, **{"format": "PNG", **save})
    return file.getvalue()


@pytest.fixture
def picture() -> Picture:
    return _picture


@pytest.fixture
def tree(tmp_path: Path) -> Callable[..., Path]:
    """Write {path: content} below a folder; an int stands for the picture of that seed."""

    def write(content: dict[str, bytes | int], name: str = "data") -> Path:
        root = tmp_path / name
        root.mkdir(exist_ok=True)
        for path, value in content.items():
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(value if isinstance(value, bytes) else _picture(value))
        return root

    return write


@pytest.fixture
def sound() -> dict[str, bytes | int]:
    """Two classes, 5 images each in train and 2 in test, all different."""
    return {
        f"{split}/{label}/{i}.png": 100 * s + 10 * c + i
        for s, (split, count) in enumerate((("train", 5), ("test", 2)))
        for c, label in enumerate(("cat", "dog"))
        for i in range(count)
    }


@pytest.fixture
def contract() -> ImageContract:
    return ImageContract(4, "crop", 1.0, "bilinear", (0.5, 0.4, 0.3), (0.2, 0.2, 0.1))
