"""Import torchvision beside a torch that its compiled operators were not built for.

torchvision from the package index is built for CUDA. Beside a CPU build of torch its compiled library cannot be loaded,
and `import torchvision`, and so `import timm`, dies with "operator torchvision::nms does not exist", although nothing
here uses those operators. Declaring their schemas lets the import through; calling them would still fail.
"""

from __future__ import annotations

import importlib
import sys

import torch

_declared: list[torch.library.Library] = []  # a library's declarations last as long as the object


def import_torchvision() -> None:
    """Import torchvision, declaring the operators that it misses on exactly that error. Call before importing timm."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)
        importlib.import_module("torchvision")
