"""The exported model on image files, with numpy, Pillow and onnxruntime only: importing this never imports torch.

Shapes: B images, s image side, C classes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from adaptformer.data.contract import ImageContract
from adaptformer.data.decoding import DamagedImage
from adaptformer.data.layout import ignored
from adaptformer.data.resizing import prepare
from adaptformer.errors import UserError

_PROVIDERS = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}


@dataclass(frozen=True)
class Prediction:
    """One image's best classes with their probabilities, best first; or the reason why there are none."""

    path: Path
    classes: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    fault: str = ""


class Predictor:
    """An ONNX file of this project, ready to run."""

    def __init__(
        self, content: bytes | Path, device: Literal["auto", "cpu", "cuda"] = "auto", threads: int = 0
    ) -> None:
        """Open the model. Raises UserError for a file that is none, and for CUDA asked for in vain."""
        onnxruntime.set_default_logger_severity(4)  # a missing CUDA library is reported below, by name
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = threads
        wanted = [_PROVIDERS["cpu"]] if device == "cpu" else [_PROVIDERS["cuda"], _PROVIDERS["cpu"]]
        offered = onnxruntime.get_available_providers()
        try:
            model = str(content) if isinstance(content, Path) else content
            self._session = onnxruntime.InferenceSession(
                model, options, providers=[name for name in wanted if name in offered]
            )
            metadata = json.loads(self._session.get_modelmeta().custom_metadata_map["adaptformer"])
            self.classes: tuple[str, ...] = tuple(metadata["classes"])
            self.contract = ImageContract.from_dict(metadata["image"])
        except KeyError as error:
            raise UserError(f"{_name(content)} is no model of adaptformer", "give the model.onnx of a run") from error
        except Exception as error:  # onnxruntime's own exceptions share no base class
            raise UserError(
                f"{_name(content)} cannot be opened: {' '.join(str(error).split())[:160]}",
                "export the model again: `adaptformer export`",
            ) from error
        self.provider: str = self._session.get_providers()[0]
        """The one that really runs: onnxruntime lists CUDA as available where it cannot be loaded."""
        if device == "cuda" and self.provider != _PROVIDERS["cuda"]:
            raise UserError(
                "CUDA was asked for, but onnxruntime could not load it",
                "install CUDA and cuDNN, or choose --device cpu",
            )

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return logits [B, C] of prepared images [B, s, s, 3]."""
        (result,) = self._session.run(None, {self._session.get_inputs()[0].name: images})
        return np.asarray(result, dtype=np.float32)

    def predict(self, paths: Iterable[Path], top: int, batch_size: int = 32) -> Iterator[Prediction]:
        """Yield the `top` best classes of each image file, in order; a file that is no image gets its fault instead."""
        remaining = iter(paths)
        while batch := list(islice(remaining, batch_size)):
            prepared = [self._prepared(path) for path in batch]
            images = [image for image in prepared if not isinstance(image, str)]
            rows = iter(softmax(self.logits(np.stack(images)))) if images else iter(())
            for path, image in zip(batch, prepared, strict=True):
                if isinstance(image, str):
                    yield Prediction(path, fault=image)
                    continue
                probabilities = next(rows)
                best = np.argsort(-probabilities, kind="stable")[:top]
                yield Prediction(
                    path, tuple(self.classes[i] for i in best), tuple(float(probabilities[i]) for i in best)
                )

    def _prepared(self, path: Path) -> NDArray[np.uint8] | str:
        try:
            return prepare(path.read_bytes(), self.contract)
        except DamagedImage as error:
            return str(error)
        except OSError as error:
            return error.strerror or "cannot be read"


def images_below(paths: Iterable[Path]) -> list[Path]:
    """Return files as they are and every file below folders, sorted, without hidden ones and litter.

    Raises UserError for a path that does not exist.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            for folder, names, members in os.walk(path):
                names[:] = sorted(name for name in names if not ignored(name))
                found += [Path(folder) / name for name in sorted(members) if not ignored(name)]
        elif path.exists():
            found.append(path)
        else:
            raise UserError(f"{path} does not exist", "give image files, or folders that hold some")
    return found


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the probabilities [B, C] of logits [B, C]."""
    exponents = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    result: NDArray[np.float64] = exponents / exponents.sum(axis=1, keepdims=True)
    return result


def _name(content: bytes | Path) -> str:
    return str(content) if isinstance(content, Path) else "the model"
