"""Reader of files that torch has pickled, without running code in them: tensors, plain values and inert stand-ins.

torch's own reader for weights only calls functions and classes that it knows. Published files also hold dates, paths,
NumPy numbers and settings beside the weights: each of these becomes a stand-in that keeps nothing. A class that is on
no list is refused.
"""

from __future__ import annotations

import math
import pickle
import re
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adaptformer.backbones.address import one_line
from adaptformer.base.errors import UserError
from adaptformer.model.tensor_file import damaged


class Inert:
    """Stand-in for a value that is not needed: its arguments and state are dropped."""

    def __new__(cls, *_arguments: Any, **_keywords: Any) -> Inert:
        """Return an empty object."""
        return object.__new__(cls)

    def __setstate__(self, _state: Any) -> None:
        """Drop the state."""


class _Mapping:
    """Stand-in for a mapping class (defaultdict, the settings of a training library): makes a plain OrderedDict."""

    def __new__(cls, *_arguments: Any) -> OrderedDict[Any, Any]:  # type: ignore[misc]
        return OrderedDict()


class _Dtype(Inert):
    """Stand-in for NumPy's dtype: its code such as `f4`, and its byte order."""

    def __new__(cls, code: Any = "", *_arguments: Any) -> _Dtype:
        made = object.__new__(cls)
        made.code, made.order = str(code), "="
        return made

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in {"<", ">"}:
            self.order = state[1]

    code: str
    order: str


class Array(Inert):
    """Stand-in for NumPy's array: the state in the pickle, with the bytes of the numbers."""

    def __setstate__(self, state: Any) -> None:
        """Keep shape, dtype, order and bytes."""
        self.state = state

    state: Any = None

    def tensor(self) -> Tensor | None:
        """Return the numbers as a tensor, None if the array holds something else or is damaged."""
        try:
            _, shape, dtype, fortran, content = self.state
            if not isinstance(content, bytes) or dtype.code not in {"f2", "f4", "f8"}:
                return None
            numbers = np.frombuffer(content, np.dtype(dtype.order + dtype.code))
            if math.prod(shape) != len(numbers):
                return None
            array = numbers.reshape(shape, order="F" if fortran else "C")
            return torch.from_numpy(array.astype(array.dtype.newbyteorder("=")))
        except (AttributeError, OverflowError, TypeError, ValueError):
            return None


def _reconstruct(*_arguments: Any) -> Array:
    return Array()


_INERT = (
    *("argparse.Namespace", "types.SimpleNamespace", "uuid.UUID", "decimal.Decimal", "fractions.Fraction"),
    *(f"pathlib.{name}" for name in ("Path", "PosixPath", "WindowsPath")),
    *(f"pathlib.Pure{name}" for name in ("Path", "PosixPath", "WindowsPath")),
    *(f"pathlib._local.{name}" for name in ("Path", "PosixPath", "WindowsPath")),
    *(f"datetime.{name}" for name in ("datetime", "date", "time", "timedelta", "timezone")),
    *(f"builtins.{name}" for name in ("int", "float", "bool", "str", "list", "tuple", "dict", "frozenset", "object")),
    *(f"builtins.{name}" for name in ("range", "slice")),
    *(f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")),
    *("typing.Any", "omegaconf.base.ContainerMetadata", "omegaconf.base.Metadata"),
    *("omegaconf.dictconfig.DictConfig", "omegaconf.listconfig.ListConfig"),
    *(f"omegaconf.nodes.{name}Node" for name in ("Any", "Boolean", "Float", "Integer", "String")),
)
_MAPPINGS = (
    *("collections.defaultdict", "easydict.EasyDict", "timm.utils.misc.AttrDict"),
    *(f"{package}.utilities.parsing.AttributeDict" for package in ("pytorch_lightning", "lightning.pytorch")),
    *(f"{package}.utilities.data.AttributeDict" for package in ("lightning_fabric", "lightning.fabric")),
)
_STAND_INS: list[Any] = [
    *((Inert, name) for name in _INERT),
    *((_Mapping, name) for name in _MAPPINGS),
    *((_reconstruct, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    (Array, "numpy.ndarray"),
    (_Dtype, "numpy.dtype"),
]


def read(path: Path) -> Any:
    """Return the content of a file that `torch.save` wrote, in its zip or its older format, on the CPU.

    Raises UserError for an object of an unknown class, which the message names, and for a damaged file.
    """
    try:
        # A file object, because torch also considers the suffix of a path.
        with path.open("rb") as file, torch.serialization.safe_globals(_STAND_INS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about pickles that are refused below anyway
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own text is not passed on, because it suggests loading the file anyway.
        raise _refusal(path, str(error)) from error
    except Exception as error:  # torch's readers raise almost anything on damaged bytes
        raise damaged(path, one_line(error)) from error


def _refusal(path: Path, text: str) -> UserError:
    """Return the error for a refusal of torch: a class that is not allowed, or bytes that are not a pickle of torch."""
    if "DTensor" in text or "nested" in text:
        return UserError(
            f"{path} holds tensors that are distributed over processes", "save the whole state_dict() instead"
        )
    if not _may_run_code(path, text):
        return damaged(path, "not in torch's format")
    named = re.search(r"GLOBAL ([\w.]+)", text)
    return UserError(
        f"{path} was not opened: it would run code when unpickled" + (f" ({named[1]})" if named else ""),
        "take the file from its publisher; or, if you trust it, load it elsewhere and save its state_dict()",
    )


def _may_run_code(path: Path, refusal: str) -> bool:
    """Return whether torch refused a function or class that is not allowed, by its message.

    On raw pickles of newer protocols, which their first byte identifies, torch stops earlier, at an unknown operand.
    """
    if "Unsupported operand" in refusal:
        with path.open("rb") as file:
            return file.read(1) == pickle.PROTO
    return "GLOBAL" in refusal or "Unsupported class" in refusal
