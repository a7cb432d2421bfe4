"""The parity check of an export: the ONNX file must agree with the trained model on real images.

Shapes: N images, s image side, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from adaptformer.base.errors import UserError
from adaptformer.data.preprocessing import ImageContract
from adaptformer.data.resizing import prepare
from adaptformer.model import inference
from adaptformer.model.classifier import Classifier
from adaptformer.prediction.predictor import Predictor

BATCH = 32
BATCHES = (1, 3, 8)
"""Batch sizes for which the logits must be the same: a graph may fix its batch size although it is symbolic."""


@dataclass(frozen=True)
class Parity:
    """The difference between the logits of the ONNX file and those of the trained model."""

    images: int
    largest_difference: float
    largest_logit: float
    top1_equal: int
    top1_near_ties: int
    tolerance: float

    @property
    def relative(self) -> float:
        """Largest difference over largest logit."""
        return self.largest_difference / self.largest_logit if self.largest_logit else self.largest_difference

    @property
    def holds(self) -> bool:
        """Whether the bound holds and every different top-1 is a near tie."""
        return self.relative <= self.tolerance and self.top1_equal + self.top1_near_ties == self.images

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {**asdict(self), "relative": self.relative, "holds": self.holds}


def compare(ours: NDArray[np.float32], theirs: NDArray[np.float32], tolerance: float) -> Parity:
    """Compare logits [N, C] of the trained model with those of the file.

    A different best class is a near tie if the trained model's two largest logits differ by no more than the bound.
    """
    largest = float(np.abs(ours).max())
    differs = ours.argmax(axis=1) != theirs.argmax(axis=1)
    two_best = np.sort(ours, axis=1)[:, -2:]
    near = (two_best[:, 1] - two_best[:, 0]) <= tolerance * largest
    return Parity(
        images=len(ours),
        # Comparisons with NaN are false, so NaN becomes an infinite difference, which fails the check.
        largest_difference=float(np.nan_to_num(np.abs(ours - theirs), nan=np.inf, posinf=np.inf).max()),
        largest_logit=largest,
        top1_equal=int((~differs).sum()),
        top1_near_ties=int((differs & near).sum()),
        tolerance=tolerance,
    )


def check(
    model: Classifier, onnx_file: Path, paths: Sequence[Path], contract: ImageContract, tolerance: float, threads: int
) -> Parity:
    """Run the trained model and the ONNX file on the bytes of the image files, and return the parity.

    The trained model uses torch's threads; the ONNX file is opened from disk and uses `threads` threads. Raises
    UserError if the bound does not hold or the logits depend on the batch size.
    """
    images = np.stack([prepare(path.read_bytes(), contract, None) for path in paths])
    ours = inference.logits(model, images, contract, batch_size=BATCH, device=torch.device("cpu")).numpy()
    predictor = Predictor(onnx_file, device="cpu", threads=threads)
    theirs = np.concatenate(
        [_logits(predictor, images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    )
    parity = compare(ours, theirs, tolerance)
    if not parity.holds:
        raise UserError(
            f"the ONNX file differs from the trained model: {parity.relative:.2e} of the largest logit, "
            f"top-1 equal on {parity.top1_equal} of {parity.images} images",
            f"nothing was exported; report it, or try another export.opset (the bound is {tolerance:.0e})",
        )
    _check_batches(predictor, images, theirs, tolerance * max(parity.largest_logit, 1e-12))
    return parity


def _check_batches(
    predictor: Predictor, images: NDArray[np.uint8], expected: NDArray[np.float32], bound: float
) -> None:
    for size in BATCHES:
        batch = np.resize(images, (size, *images.shape[1:]))
        reference = np.resize(expected, (size, expected.shape[1]))
        logits = _logits(predictor, batch)
        # "not <=" instead of ">": comparisons with NaN are false.
        if logits.shape != reference.shape or not np.abs(logits - reference).max() <= bound:
            raise UserError(
                f"the ONNX file gives other logits in a batch of {size}",
                "nothing was exported; try another export.opset",
            )


def _logits(predictor: Predictor, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    try:
        return predictor.logits(images)
    except UserError as error:
        raise UserError(
            f"the ONNX file does not run on a batch of {len(images)}: {error.cause}",
            "nothing was exported; try another export.opset",
        ) from error
