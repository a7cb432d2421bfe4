"""The two files of an exported model: `model.onnx`, and `model.onnx.data` for weights too large for it.

`model.onnx.data` is always written, with 0 bytes if `model.onnx` holds all weights, so that each run has the same
files. If it is not empty, the metadata of `model.onnx` have its size and hash.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from adaptformer.base import files


def weights_of(model: Path) -> Path:
    """Return the path of the weights that belong to the ONNX file `model`."""
    return model.with_name(f"{model.name}.data")


def size(model: Path) -> int:
    """Return the size of the model in bytes, weights included."""
    return sum(path.stat().st_size for path in _parts(model))


def sha256(model: Path) -> str:
    """Return one hash for the model: that of the ONNX file, or one over the hashes of both files if there are two."""
    hashes = [files.sha256_file(path) for path in _parts(model)]
    return hashes[0] if len(hashes) == 1 else files.sha256_text(files.canonical_json(hashes))


@contextlib.contextmanager
def replacing(model: Path) -> Iterator[Path]:
    """Yield a path for a new ONNX file with its weights beside it; on success both replace the files of `model`.

    The new files have their final names in a temporary folder, because an ONNX file refers to its weights by name. The
    old ONNX file is removed first and the new one moved last, so no ONNX file is ever beside the weights of another
    model. If the body raises, no new files remain.
    """
    staging = model.with_name(f".{model.name}.staging")
    try:
        shutil.rmtree(staging, ignore_errors=True)  # left by a killed process
        staging.mkdir(parents=True)
        yield staging / model.name
        model.unlink(missing_ok=True)
        for path in (weights_of(model), model):
            with files.replacing(path) as new_file:
                (staging / path.name).rename(new_file)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _parts(model: Path) -> list[Path]:
    """Return the files that hold the model, without the weights file if it is empty or missing."""
    weights = weights_of(model)
    return [model, weights] if weights.is_file() and weights.stat().st_size else [model]
