"""An import of torchvision that works with a torch for which its compiled operators were not built.

torchvision from the package index is built for CUDA. With a CPU build of torch its compiled library cannot be loaded,
and `import torchvision`, and thus `import timm`, fails with "operator torchvision::nms does not exist", although
nothing here uses those operators. If their schemas are declared, the import works; calling them would still fail.
"""

from __future__ import annotations

import importlib
import sys

import torch

_declared: list[torch.library.Library] = []  # the declarations last only as long as the library object


def import_torchvision() -> None:
    """Import torchvision; on exactly that error, declare the missing operators. Call this before importing timm."""
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
