"""Checks before onnxruntime opens a model: only one package of it is installed, and it finds CUDA's libraries."""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import sys
from functools import cache
from importlib import metadata

import onnxruntime

log = logging.getLogger("adaptformer")

PACKAGES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino", "onnxruntime-migraphx")
"""Packages that all install the module `onnxruntime`. Whichever is present is used."""


@cache
def warn_of_several() -> None:
    """Log a warning, once in each process, if several packages of `PACKAGES` are installed.

    They write over each other's files, so which of them runs is chance, and removing one breaks the other.
    """
    present = [name for name in PACKAGES if _installed(name)]
    if len(present) > 1:
        log.warning(
            "%s are installed and write over each other's files: run `pip uninstall --yes %s`, then install one again",
            " and ".join(present), " ".join(present),
        )  # fmt: skip


@cache
def load_cuda() -> None:
    """Load the CUDA libraries that pip has installed, if this machine has NVIDIA's driver.

    onnxruntime does not find them by itself, and then runs on the CPU.
    """
    with contextlib.suppress(OSError):
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what is missing; the provider in use is shown later
            onnxruntime.preload_dlls()


def _installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True
