"""The predictor: the exported model on image files, with only numpy, Pillow and onnxruntime; it never imports torch.

Shapes: B images, s image side, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, tee
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from adaptformer.base import files, integrity
from adaptformer.base.errors import UserError
from adaptformer.data import image_files
from adaptformer.data.decoding import DamagedImage
from adaptformer.data.layout import LeftOut, visible_files
from adaptformer.data.resizing import prepare
from adaptformer.prediction import model_checksum, model_metadata, onnxruntime_setup

WEIGHTS = "model.onnx.data"
"""The name by which an exported model refers to its external weights, even after the model is renamed."""

NO_ANSWER = "the model's answer is no number"
"""The fault of an image for which the model gives NaN or infinity."""

_REWRITTEN = "copy or export it again; for a file that another tool rewrote on purpose, give --unverified"
_BOTH = f"copy model.onnx and {WEIGHTS} from the same run into one folder, or export the model again"
_ANOTHER = "export the model again: `adaptformer export`"
_PROVIDERS = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}


class Best(NamedTuple):
    """The best classes of an image with their probabilities, best first, or the reason why there are none."""

    classes: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    fault: str = ""


@dataclass(frozen=True)
class Prediction:
    """The path of an image, and its best classes as `Best` has them."""

    path: Path
    classes: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    fault: str = ""

    def unsure(self, below: float) -> bool:
        """Return whether the best class's probability is less than `below`."""
        return not self.fault and self.probabilities[0] < below


class Predictor:
    """An ONNX file of this project, ready to run."""

    def __init__(
        self,
        path: Path,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        threads: int = 0,
        *,
        unverified: bool = False,
    ) -> None:
        """Open the model at `path`, with the external weights beside it if it has any.

        `threads` is the number of CPU threads; 0 means onnxruntime's own choice. With `unverified`, the checksums of
        the file and its weights are not checked, for a file rewritten by another tool, such as a quantiser. Raises
        UserError for a file that is no model of this project or was changed after the export, for weights that are
        missing or belong to another model, and if CUDA is requested and cannot be loaded.
        """
        verified = None if unverified else _verified(path)
        self._path = path
        self._session = _session(path, device, threads)
        about = model_metadata.read(self._session, path)
        # Files of format 1 have no checksum; a file of a later format without one has lost it.
        if not (unverified or verified or about.format == 1):
            raise UserError(f"{path} has lost the checksum at its end, so it is not as it was exported", _REWRITTEN)
        self.classes, self.contract, self.adapter = about.classes, about.image, about.adapter
        if about.weights is not None and not unverified:
            _require_weights(path, about.weights)
        self.provider: str = self._session.get_providers()[0]
        """The provider in use: onnxruntime lists CUDA as available even if it cannot be loaded."""
        if device == "cuda" and self.provider != _PROVIDERS["cuda"]:
            raise UserError(
                "CUDA was asked for, but onnxruntime could not load it",
                "install CUDA and cuDNN (`pip install 'adaptformer[gpu]'`), or choose --device cpu",
            )

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return logits [B, C] of prepared images [B, s, s, 3]. Raises UserError if the model fails."""
        try:
            (result,) = self._session.run(None, {self._session.get_inputs()[0].name: images})
        except Exception as error:  # onnxruntime's own exceptions share no base class
            reason = " ".join(str(error).split())[:160]
            raise UserError(f"{self._path} fails on a batch of {len(images)}: {reason}", _ANOTHER) from error
        answer = np.asarray(result, dtype=np.float32)
        if answer.shape != (len(images), len(self.classes)):
            shape = f"{len(images)} x {len(self.classes)}"
            raise UserError(f"{self._path} gives numbers of shape {answer.shape}, not {shape}", _ANOTHER)
        return answer

    def predict(self, paths: Iterable[Path], top: int, batch_size: int = 32) -> Iterator[Prediction]:
        """Yield the `top` best classes of each image file, in order.

        A file that is no image, or for which the model returns non-finite numbers, gets a fault instead.
        """
        of_answers, of_results = tee(paths)
        answers = self.best(map(self._prepared, of_answers), top, batch_size)
        for path, best in zip(of_results, answers, strict=True):
            yield Prediction(path, *best)

    def best(self, prepared: Iterable[NDArray[np.uint8] | str], top: int, batch_size: int = 32) -> Iterator[Best]:
        """Yield the `top` best classes of each prepared image [s, s, 3], in order; faults are as in `answers`."""
        for answer in self.answers(prepared, batch_size):
            if isinstance(answer, str):
                yield Best(fault=answer)
                continue
            order = np.argsort(-answer, kind="stable")[:top]
            yield Best(tuple(self.classes[index] for index in order), tuple(map(float, answer[order])))

    def answers(
        self, prepared: Iterable[NDArray[np.uint8] | str], batch_size: int = 32
    ) -> Iterator[NDArray[np.float64] | str]:
        """Yield the probabilities [C] of each prepared image [s, s, 3], in order.

        In place of an image, its fault may be given, which is passed on; an image for which the model returns
        non-finite numbers gets one.
        """
        remaining = iter(prepared)
        while batch := list(islice(remaining, batch_size)):
            images = [image for image in batch if not isinstance(image, str)]
            rows = iter(softmax(self.logits(np.stack(images)))) if images else iter(())
            for image in batch:
                if isinstance(image, str):
                    yield image
                    continue
                probabilities = next(rows)
                yield probabilities if answered(probabilities) else NO_ANSWER

    def probabilities(self, contents: Iterable[bytes], batch_size: int = 32) -> Iterator[NDArray[np.float64]]:
        """Yield the probabilities [B, C] of encoded images, batch by batch, as `softmax` returns them.

        Raises DamagedImage if the bytes are no usable image.
        """
        remaining = iter(contents)
        while batch := list(islice(remaining, batch_size)):
            images = [prepare(content, self.contract, None) for content in batch]
            yield softmax(self.logits(np.stack(images)))

    def _prepared(self, path: Path) -> NDArray[np.uint8] | str:
        try:
            return prepare(image_files.read(path), self.contract)
        except DamagedImage as error:
            return str(error)
        except OSError as error:
            return error.strerror or "cannot be read"


def images_below(paths: Iterable[Path]) -> list[Path]:
    """Return the given files and every file below the given folders, sorted, without hidden files and litter.

    Raises UserError for a path that does not exist, and for a folder without files.
    """
    paths_of_images: list[Path] = []
    for path in paths:
        before = len(paths_of_images)
        if path.is_dir():
            left_out = LeftOut()
            paths_of_images += [Path(place) / name for place, names in visible_files(path, left_out) for name in names]
            left_out.tell(str(path))
        elif path.exists():
            paths_of_images.append(path)
        else:
            raise UserError(f"{path} does not exist", "give image files, or folders that hold some")
        if len(paths_of_images) == before:
            raise UserError(f"{path} holds no files", "give image files, or folders that hold some")
    return paths_of_images


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the probabilities [B, C] of logits [B, C]; rows with non-finite logits are NaN."""
    sound = np.isfinite(logits).all(axis=1, keepdims=True)
    finite = np.where(sound, logits.astype(np.float64), 0.0)
    exponents = np.exp(finite - finite.max(axis=1, keepdims=True))
    result: NDArray[np.float64] = np.where(sound, exponents / exponents.sum(axis=1, keepdims=True), np.nan)
    return result


def answered(probabilities: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return whether the model has an answer, for the probabilities [C] of an image or each row of [B, C]."""
    return np.asarray(np.isfinite(probabilities).all(axis=-1), dtype=np.bool_)


def _verified(path: Path) -> bool:
    """Return whether a file has a checksum. Raises UserError if it does not match, or the file cannot be read."""
    try:
        matches = model_checksum.matches(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", "give the model.onnx of a run") from error
    if matches is False:
        raise integrity.altered(path, _REWRITTEN)
    return matches is not None


def _require_weights(model: Path, sha256: str) -> None:
    """Raise UserError unless the weights beside a model are its own: other weights may have the same size and names."""
    weights = model.with_name(WEIGHTS)
    try:
        present = files.sha256_file(weights)
    except OSError as error:
        raise UserError(f"{weights} cannot be read: {error.strerror}", _BOTH) from error
    if present != sha256:
        raise UserError(f"{weights} does not hold the weights of {model}", _BOTH)


def _session(path: Path, device: str, threads: int) -> onnxruntime.InferenceSession:
    onnxruntime.set_default_logger_severity(4)  # the caller reports a missing CUDA library by name
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    preferred = [_PROVIDERS["cpu"]] if device == "cpu" else [_PROVIDERS["cuda"], _PROVIDERS["cpu"]]
    offered = onnxruntime.get_available_providers()
    onnxruntime_setup.warn_of_several()
    if device != "cpu" and _PROVIDERS["cuda"] in offered:
        onnxruntime_setup.load_cuda()
    providers = [name for name in preferred if name in offered]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime's own exceptions share no base class
        reason = " ".join(str(error).split())[:160]
        weights = path.with_name(WEIGHTS)
        if not (path.is_file() and WEIGHTS.encode() in path.read_bytes()):
            raise UserError(f"{path} cannot be opened: {reason}", _ANOTHER) from error
        if not weights.is_file():
            raise UserError(f"{path} needs {weights}, which does not exist", _BOTH) from error
        raise UserError(f"{path} cannot be opened with the weights in {weights}: {reason}", _BOTH) from error
