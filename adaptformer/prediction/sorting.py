"""Copies of classified images, in one folder per class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path

from adaptformer.base import files
from adaptformer.base.errors import UserError
from adaptformer.base.names import class_name_fault, shown
from adaptformer.data import image_files
from adaptformer.prediction.prediction_table import UNSURE
from adaptformer.prediction.predictor import Prediction


def require_apart(classes: Sequence[str], below: float) -> None:
    """Raise UserError if unsure answers (`sorted_into`) would share a folder with a class of the same name."""
    same = next((name for name in classes if name.casefold() == UNSURE), None)  # some disks ignore case
    if below and same is not None:
        raise UserError(
            f"the model has a class {shown(same)}: its images would lie among those that it is unsure of, in {UNSURE}/",
            "give --csv or --json, which tell the two apart; or sort without --min-confidence",
        )


def sorted_into(folder: Path, predictions: Iterable[Prediction], below: float) -> Iterator[Prediction]:
    """Yield the predictions, each after its image is copied to `folder`/CLASS/FILE.

    Images with a probability less than `below` go to `folder`/unsure/. Existing files stay: if a file of the same name
    has other bytes, the copy gets a number. Raises UserError for a class that cannot be the name of a folder, so that
    nothing is written outside of `folder`.
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
