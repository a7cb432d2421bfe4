"""A model that answers: an exported file, the one of a run, or a registered version. Predicting needs no torch.

Shapes: N images, C classes, D width of the backbone.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from adaptformer.base.errors import UserError
from adaptformer.config.run_folder import RunFolder
from adaptformer.data import decoding, image_files
from adaptformer.data.decoding import DamagedImage, Pixels
from adaptformer.data.preprocessing import ImageContract
from adaptformer.data.resizing import centre_crop, prepare, to_square
from adaptformer.prediction.predictor import Predictor

if TYPE_CHECKING:
    ImageLike = str | os.PathLike[str] | bytes | Image.Image | NDArray[np.uint8]

_GIVE = "give a path, the bytes of an image file, an image of Pillow, or an array of uint8"


@dataclass(frozen=True)
class Answer:
    """The best classes of one image with their probabilities, best first, or the `fault` for which there are none.

    `image` is the path that was given, or the image's place in the list.
    """

    image: str
    classes: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    fault: str = ""

    @property
    def label(self) -> str:
        """The best class. Raises UserError if the image could not be read or the model has no answer."""
        self._require_answer()
        return self.classes[0]

    @property
    def probability(self) -> float:
        """The probability of the best class. Raises UserError as `label` does."""
        self._require_answer()
        return self.probabilities[0]

    def _require_answer(self) -> None:
        if self.fault:
            raise UserError(
                f"{self.image}: {self.fault}", "give another image; `fault` tells which ones have no answer"
            )


class Model:
    """An exported model, ready to predict; `load` opens one.

    >>> model = af.load("runs/pets")
    >>> answer = model.predict(["photos/blue/0.png"], top_k=2)[0]
    >>> answer.label, len(answer.probabilities)
    ('blue', 2)
    """

    def __init__(self, predictor: Predictor, file: Path | None, name: str) -> None:
        self._predictor = predictor
        self._file = file
        self.name = name
        """The model in words: its file, or the registered version and its verdict."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of `probabilities`."""
        return self._predictor.classes

    def predict(self, images: Iterable[ImageLike], top_k: int = 1) -> list[Answer]:
        """Return an answer for each image, in order, with its `top_k` best classes.

        An image is a path, the bytes of a file, an opened image of Pillow, or an array of uint8: [H, W, 3] RGB,
        [H, W, 4] RGBA or [H, W] grey. Of one that cannot be read, the answer has a `fault`. A path and the bytes of its
        file give the same numbers as `adaptformer predict`; opened JPEGs, which are at full scale, within rounding.
        Raises UserError for one image in place of a list, and for other kinds of image.
        """
        if top_k < 1:
            raise UserError(f"top_k is {top_k}", "give 1 or more")
        listed = _listed(images)
        prepared = (self._prepared(image) for image in listed)
        names = (
            os.fspath(image) if isinstance(image, str | os.PathLike) else f"image {index}"
            for index, image in enumerate(listed)
        )
        return [Answer(name, *best) for name, best in zip(names, self._predictor.best(prepared, top_k), strict=True)]

    def probabilities(self, images: Iterable[ImageLike]) -> NDArray[np.float64]:
        """Return the probabilities [N, C] of images, in the order of `classes`.

        Raises UserError for the first image that has no answer, and as `predict` does.
        """
        listed = _listed(images)
        rows = list(self._predictor.answers(self._prepared(image) for image in listed))
        for index, row in enumerate(rows):
            if isinstance(row, str):
                image = listed[index]
                name = os.fspath(image) if isinstance(image, str | os.PathLike) else f"image {index}"
                raise UserError(f"{name}: {row}", "leave it out; `predict` gives answers for the others")
        return np.array(rows).reshape(len(rows), len(self.classes))

    def embed(self, images: Iterable[ImageLike]) -> NDArray[np.float32]:
        """Return the features [N, D] of images that the trained model gives its head: alike images are near each other.

        Computed by torch on the CPU, from the adapter and the backbone in the run's folder. Raises UserError if they
        are not beside the model's file, and for an image that cannot be read.

        >>> af.load("runs/pets").embed(["photos/blue/0.png", "photos/coral/0.png"]).shape
        (2, 96)
        """
        from adaptformer.api import embedding

        listed = _listed(images)
        prepared = [self._prepared(image) for image in listed]
        for index, one in enumerate(prepared):
            if isinstance(one, str):
                raise UserError(f"image {index} of the list: {one}", "leave it out")
        return embedding.features(self._file, [one for one in prepared if not isinstance(one, str)])

    def __repr__(self) -> str:
        return f"Model({self.name!r}, {len(self.classes)} classes)"

    def _prepared(self, image: ImageLike) -> Pixels | str:
        """Return an image as the model sees it, or the reason why it cannot be read."""
        try:
            return pixels(image, self._predictor.contract)
        except DamagedImage as error:
            return str(error)
        except OSError as error:
            return error.strerror or "cannot be read"


def load(model: str | os.PathLike[str], *, device: Literal["auto", "cpu", "cuda"] = "auto", threads: int = 0) -> Model:
    """Return a model by the folder of its run, its ONNX file, or its name in the registry; without torch.

    Names are those of `adaptformer predict --model`: "models:/pets@champion", "models:/pets/3", and, in the folder of a
    project, "champion" and "v3". `threads` is the number of CPU threads, 0 onnxruntime's own choice. Raises UserError
    if there is no such model, or if its file was altered.

    >>> af.load("runs/pets").predict(["photos/coral/1.png"])[0].label
    'coral'
    """
    named = os.fspath(model)
    if named.startswith("models:/") or re.fullmatch(r"champion|v\d+", named):
        from adaptformer.registry import model_choice

        with tempfile.TemporaryDirectory() as scratch:
            choice = model_choice.choose(named, RunFolder())
            file = model_choice.file_of(choice, RunFolder(), Path(scratch))
            return Model(Predictor(file, device, threads), None, choice.line)
    path = Path(named)
    file = RunFolder(path).model if path.is_dir() else path
    if not file.is_file():
        raise UserError(
            f"{file} does not exist", "give the folder of a finished run, a model.onnx, or models:/NAME@champion"
        )
    return Model(Predictor(file, device, threads), file, str(file))


def pixels(image: ImageLike, contract: ImageContract) -> Pixels:
    """Return an image of any kind as a model sees it, [s, s, 3].

    Raises DamagedImage for one that is not usable, OSError for a file that cannot be read, UserError for another kind.
    """
    if isinstance(image, str | os.PathLike):
        return prepare(image_files.read(Path(image)), contract)
    if isinstance(image, bytes):
        return prepare(image, contract)
    if isinstance(image, np.ndarray):
        usual = image.ndim == 2 or (image.ndim == 3 and image.shape[2] in {3, 4})
        if image.dtype != np.uint8 or not usual or not image.size:
            raise UserError(f"an array of {image.dtype} {list(image.shape)} is no image", f"{_GIVE}, [H, W, 3]")
        image = Image.fromarray(image)
    if not isinstance(image, Image.Image):
        raise UserError(f"{type(image).__name__} is no kind of image", _GIVE)
    decoding.refuse_size(image.width, image.height, decoding.MAX_PIXELS)
    square = to_square(decoding.pixels_of(image, contract.sixteen_bit_max), contract)
    return np.ascontiguousarray(centre_crop(square, contract.size))


def _listed(images: Iterable[ImageLike]) -> list[ImageLike]:
    """Return the images as a list. Raises UserError for one image, whose parts would be taken for images."""
    if isinstance(images, str | os.PathLike | bytes | Image.Image):
        raise UserError(f"one {type(images).__name__} was given, not a list", "put it into a list: [image]")
    if isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.ndim in {2, 3}:
        raise UserError("one array was given, not a list of images", "put it into a list, or give [N, H, W, 3]")
    return [str(image) if isinstance(image, np.str_) else image for image in images]
