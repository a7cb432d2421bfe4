"""Copies of classified images in a folder for each class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path

from adaptformer import files
from adaptformer.data import image_files
from adaptformer.errors import UserError
from adaptformer.export.prediction_table import UNSURE
from adaptformer.export.predictor import Prediction
from adaptformer.names import class_name_fault, shown


def require_apart(classes: Sequence[str], below: float) -> None:
    """Raise UserError if unsure answers (`sorted_into`) would share the folder of a class that has this name."""
    same = next((name for name in classes if name.casefold() == UNSURE), None)  # one folder on some disks
    if below and same is not None:
        raise UserError(
            f"the model has a class {shown(same)}: its images would lie among those that it is unsure of, in {UNSURE}/",
            "give --csv or --json, which tell the two apart; or sort without --unsure",
        )


def sorted_into(folder: Path, predictions: Iterable[Prediction], below: float) -> Iterator[Prediction]:
    """Yield the predictions, each after its image was copied to `folder`/CLASS/FILE.

    Those whose probability is less than `below` go to `folder`/unsure/. What is there already stays: a file of the same
    name gets a number, unless it has the same bytes. Raises UserError for a class that cannot be the name of a folder:
    nothing is ever written outside of `folder`.
    """
    for prediction in predictions:
        if not prediction.fault:
            label = UNSURE if prediction.unsure(below) else prediction.classes[0]
            if (fault := class_name_fault(label)) is not None:
                raise UserError(f"the class name {shown(label)!r} {fault}", "give a model with other class names")
            _copy(prediction.path, folder / label)
        yield prediction


def _copy(image: Path, folder: Path) -> None:
    content = image_files.read(image)
    for number in count(1):
        target = folder / (image.name if number == 1 else f"{image.stem}-{number}{image.suffix}")
        if not target.exists():
            files.write_bytes(target, content)
            return
        if target.read_bytes() == content:
            return
