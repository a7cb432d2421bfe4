"""A classifier in scikit-learn's conventions: `Classifier`.

Shapes: N images, C classes.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from adaptformer.api.fitting import fit
from adaptformer.api.model import Model, load
from adaptformer.base import csv_file
from adaptformer.base.errors import UserError


class Classifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """An image classifier that scikit-learn's tools take: its input are paths of images, [N].

    `fit` trains as the function `fit` does, with the same values: it sets a part of the images aside for validation and
    test (`data.validation_fraction` and `data.test_fraction` in `overrides`). `backbone`, `epochs` and `overrides` are
    those of that function. The images and results are in the folder `out`; without it, they are in a temporary one,
    which is removed when the classifier is. An `out` takes one fit only, so cross-validation needs None.

    >>> import glob
    >>> paths = sorted(glob.glob("photos/*/*.png"))
    >>> labels = [path.split("/")[1] for path in paths]
    >>> classifier = af.Classifier(epochs=1).fit(paths, labels)
    >>> classifier.predict_proba(paths[:2]).shape
    (2, 3)
    >>> classifier.classes_.tolist()
    ['amber', 'blue', 'coral']
    """

    classes_: NDArray[Any]
    """The labels [C], sorted, in the order of `predict_proba`."""
    model_: Model
    """The trained model."""

    def __init__(
        self,
        backbone: str | None = None,
        *,
        epochs: int | None = None,
        overrides: Mapping[str, object] | None = None,
        out: str | os.PathLike[str] | None = None,
    ) -> None:
        self.backbone = backbone
        self.epochs = epochs
        self.overrides = overrides
        self.out = out

    def fit(self, X: Sequence[str | os.PathLike[str]], y: ArrayLike) -> Classifier:  # noqa: N803 - scikit-learn's name
        """Train on the images at the paths `X` [N] with the labels `y` [N], and return the classifier.

        Raises UserError for images that cannot be used, as the function `fit` does.
        """
        paths, labels = [Path(path).absolute() for path in X], np.asarray(y)
        if labels.shape != (len(paths),):
            raise UserError(f"{len(paths)} paths have labels of shape {labels.shape}", "give one label for each path")
        self.classes_, indices = np.unique(labels, return_inverse=True)
        names = [str(label) for label in self.classes_]
        if len(set(names)) < len(names):
            raise UserError("two labels are the same text", "give labels of one type")
        self._scratch = None if self.out else tempfile.TemporaryDirectory(prefix="adaptformer-")
        out = self.out or Path(self._scratch.name) / "run"  # type: ignore[union-attr]
        with tempfile.TemporaryDirectory() as listed:
            source = Path(listed) / "images.csv"
            with source.open("w", newline="", encoding="utf-8") as file:
                writer = csv_file.Writer(file)
                writer.row(["path", "label"])
                for path, index in zip(paths, indices, strict=True):
                    writer.row([path, names[index]])
            run = fit(source, backbone=self.backbone, epochs=self.epochs, out=out, overrides=self.overrides)
        self.model_ = load(run.folder)
        return self

    def predict_proba(self, X: Sequence[str | os.PathLike[str]]) -> NDArray[np.float64]:  # noqa: N803
        """Return the probabilities [N, C] of the images at the paths `X` [N], in the order of `classes_`.

        Raises UserError for an image that cannot be read.
        """
        check_is_fitted(self, "model_")
        place = {name: index for index, name in enumerate(self.model_.classes)}
        return self.model_.probabilities(X)[:, [place[str(label)] for label in self.classes_]]

    def predict(self, X: Sequence[str | os.PathLike[str]]) -> NDArray[Any]:  # noqa: N803
        """Return the best label of each image at the paths `X` [N]; raises as `predict_proba` does."""
        best: NDArray[Any] = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return best

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for a copy. Raises UserError if the model is in a temporary folder, which has one owner."""
        if getattr(self, "_scratch", None) is not None:
            raise UserError("the model is in a temporary folder, so it cannot be copied", "give a folder: out=…")
        state: dict[str, Any] = super().__getstate__()
        return state
