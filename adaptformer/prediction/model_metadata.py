"""The metadata of an ONNX file of this project, parsed and never trusted: the file may come from anyone.

The metadata are checked against the graph and against the limits of the pixel path, so that they cannot make a later
step fail, hang or write to a wrong place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime

from adaptformer.base.errors import UserError
from adaptformer.base.names import class_name_fault, shown
from adaptformer.data import preprocessing
from adaptformer.data.preprocessing import ImageContract

KEY = "adaptformer"
"""The key of the metadata entry that holds the JSON."""
FORMAT = 3
"""Format of the JSON and of the file that holds it.

From 2 on, the file ends with its checksum; before 3, the image contract has `jpeg_min_scale` by its earlier name.
"""

_FORMATS = (1, 2, FORMAT)
_LOGITS = {"tensor(float)", "tensor(float16)", "tensor(double)"}


@dataclass(frozen=True)
class About:
    """The metadata of a model: its classes, its image contract, its format.

    `weights` is the sha256 of the external weights, `adapter` that of the adapter file from which the model was
    exported; each is None if the metadata do not have it.
    """

    classes: tuple[str, ...]
    image: ImageContract
    format: int
    weights: str | None
    adapter: str | None


def read(session: onnxruntime.InferenceSession, path: Path) -> About:
    """Return the metadata of the model of a session.

    Raises UserError if the metadata are missing or invalid, or do not fit the graph.
    """
    content, fault = _content(session)
    fault = fault or next(_faults(content, session), None)
    if fault is not None:
        raise UserError(
            f"{path} is no model of adaptformer: {shown(fault)[:200]}",
            "give the model.onnx of a run, or export it again: `adaptformer export`",
        )
    weights = content.get("weights")
    return About(
        classes=tuple(content["classes"]),
        image=ImageContract.from_dict(content["image"]),
        format=content.get("format", 1),
        weights=None if weights is None else weights["sha256"],
        adapter=content.get("adapter_sha256"),
    )


def _content(session: onnxruntime.InferenceSession) -> tuple[dict[str, Any], str | None]:
    """Return the JSON object and None, or an empty one and the reason why there is none."""
    try:
        text = session.get_modelmeta().custom_metadata_map.get(KEY)
        if text is None:
            return {}, f"it has no metadata `{KEY}`"
        content = json.loads(text)
    except (ValueError, RecursionError):  # ValueError also covers bytes that are no UTF-8
        return {}, f"its metadata `{KEY}` are no JSON"
    return (content, None) if isinstance(content, dict) else ({}, f"its metadata `{KEY}` are no JSON object")


def _faults(content: Mapping[str, Any], session: onnxruntime.InferenceSession) -> Iterator[str]:
    """Yield faults; take only the first one: each check assumes that those before it passed."""
    number = content.get("format", 1)
    if not _whole(number) or number not in _FORMATS:
        yield f"its format is {_brief(number)}, not one of {', '.join(map(str, _FORMATS))}"
    yield from _class_faults(content.get("classes"))
    if not isinstance(content.get("image"), dict):
        yield "it has no image contract"
    yield from (f"image.{fault}" for fault in preprocessing.faults(content.get("image")))
    for key, value in (("weights", content.get("weights")), ("adapter_sha256", content.get("adapter_sha256"))):
        sha256 = value.get("sha256") if key == "weights" and isinstance(value, dict) else value
        if value is not None and not _is_sha256(sha256):
            yield f"{key} names no sha256"
    yield from _graph_faults(session, len(content["classes"]), content["image"]["size"])


def _class_faults(classes: object) -> Iterator[str]:
    if not isinstance(classes, list) or not classes:
        yield "it names no classes"
        return
    for name in classes:
        if (fault := class_name_fault(name)) is not None:
            yield f"the class name {_brief(name)} {fault}"
    if len(set(classes)) < len(classes):
        yield "it names a class twice"


def _graph_faults(session: onnxruntime.InferenceSession, classes: int, size: int) -> Iterator[str]:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        yield f"its graph has {len(inputs)} inputs and {len(outputs)} outputs, not one of each"
        return
    (given,), (returned,) = inputs, outputs
    if given.type != "tensor(uint8)" or len(given.shape) != 4 or given.shape[1:] != [size, size, 3]:
        yield f"its graph takes {given.type} of {_brief(given.shape)}, not uint8 images of {size} pixels a side"
    # Another tool may have left the output shape open; then the first batch shows it.
    known = len(returned.shape) == 2 and isinstance(returned.shape[1], int)
    if returned.type not in _LOGITS or len(returned.shape) not in {0, 2} or (known and returned.shape[1] != classes):
        yield f"its graph gives {returned.type} of {_brief(returned.shape)}, not logits of {classes} classes"


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _brief(value: object) -> str:
    try:
        return repr(value)[:60]
    except ValueError:  # a number of more digits than Python shows
        return "a number of very many digits"
