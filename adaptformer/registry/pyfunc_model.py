"""The program of a registered version: MLflow copies this file beside the ONNX file and runs it to load the version.

It runs in the version's own environment (numpy, onnxruntime, MLflow), so it imports nothing of this package.

Shapes: B images, s image side, C classes.
"""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before onnxruntime is imported: docs/telemetry.md
INPUT = "images"


class Refused(MlflowException):
    """An error with a fixed message of one sentence: MLflow's server would otherwise put the pixels before it."""

    @property
    def message(self) -> str:
        """Return the sentence."""
        return str(self.args[0]) if self.args else ""

    @message.setter
    def message(self, other: str) -> None:
        """Ignore the server's change of the message."""


class ServedModel(PythonModel):  # type: ignore[misc]  # untyped
    """Classifies batches of images; refuses input for which the model would give a wrong answer or none."""

    def load_context(self, context: Any) -> None:
        """Open the ONNX file, with the file of weights beside it if there is one."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # without CUDA's libraries it runs on the CPU, which needs no warning
        offered = onnxruntime.get_available_providers()
        providers = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in offered]
        self.session = onnxruntime.InferenceSession(context.artifacts["model"], options, providers=providers)
        about = json.loads(self.session.get_modelmeta().custom_metadata_map["adaptformer"])
        self.classes = np.array(about["classes"])
        self.size = int(about["image"]["size"])

    # The annotation only keeps MLflow from warning that it is missing; MLflow does not enforce this type.
    def predict(self, context: Any, model_input: np.ndarray, params: Any = None) -> dict[str, Any]:  # noqa: ARG002
        """Return the answers to images [B, s, s, 3] of whole numbers from 0 to 255, given as an array or as `images`.

        `class` and `probability` [B] are each image's best class and its probability; `probabilities` and `logits`
        [B, C] are in the order of `classes` [C]. Raises Refused.
        """
        (logits,) = self.session.run(None, {self.session.get_inputs()[0].name: self._images(model_input)})
        logits = np.asarray(logits, np.float64)
        if (broken := np.flatnonzero(~np.isfinite(logits).all(axis=1))).size:
            raise Refused(f"the model's answer to image {broken[0]} is no number", INTERNAL_ERROR)
        exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = exponents / exponents.sum(axis=1, keepdims=True)
        best = probabilities.argmax(axis=1)
        return {
            "class": self.classes[best],
            "probability": probabilities[np.arange(len(best)), best],
            "probabilities": probabilities,
            "classes": self.classes,
            "logits": logits.astype(np.float32),
        }

    def _images(self, given: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Return the given images as uint8 [B, s, s, 3]. Raises Refused."""
        expected = f"[images, {self.size}, {self.size}, 3]"
        if isinstance(given, dict):
            if set(given) != {INPUT}:
                raise _refused(f"the input is called `{INPUT}`, not {', '.join(map(str, given))[:100] or 'nothing'}")
            given = given[INPUT]
        if not isinstance(given, (np.ndarray, list)):
            raise _refused(f"the model takes an array {expected}, not a {type(given).__name__}")
        try:
            images = np.asarray(given)
        except ValueError:
            images = np.array(None)
        if images.dtype == object:
            raise _refused(f"the images are not all of one size, or are not all numbers: give an array {expected}")
        if images.dtype.kind not in "ui":
            raise _refused(
                f"the images are of type {images.dtype}: give whole numbers from 0 to 255 (uint8), as in an image "
                "file: the model scales them itself"
            )
        if images.ndim != 4 or images.shape[1:] != (self.size, self.size, 3) or not len(images):
            shape = ", ".join(map(str, images.shape))
            raise _refused(
                f"the images have the shape [{shape}], not {expected}: decode to RGB and resize to {self.size} x "
                f"{self.size} pixels, channels last, a single image as a batch of one"
            )
        if images.min() < 0 or images.max() > 255:
            raise _refused(f"the images hold numbers from {images.min()} to {images.max()}, not from 0 to 255")
        return images.astype(np.uint8)


def _refused(sentence: str) -> Refused:
    return Refused(sentence, INVALID_PARAMETER_VALUE)


set_model(ServedModel())
