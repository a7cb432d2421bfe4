"""The packages that the base install does not have, and the extra of pyproject.toml that brings each of them."""

from __future__ import annotations

from importlib.util import find_spec

from adaptformer.base.errors import UserError

MODULES = {
    "batch": ("filelock", "fsspec", "pandas", "psutil", "pyarrow"),
    "train": (
        *("cleanlab", "filelock", "huggingface_hub", "jinja2", "markupsafe", "matplotlib", "onnx", "onnx_ir"),
        *("onnxscript", "pandas", "pandera", "psutil", "pydantic", "rich", "ruamel", "safetensors", "scipy"),
        *("sklearn", "tabulate", "timm", "torch", "torchvision", "yaml"),
    ),
    "pipeline": ("dvc", "mlflow", "optuna"),
}
"""The top-level modules that the library imports of each extra. A module of two extras is found in both."""


def require(extra: str) -> None:
    """Raise UserError if a package of an extra is not installed."""
    for module in MODULES[extra]:
        if find_spec(module) is None:
            raise _not_installed(module, extra)


def refusal(error: ModuleNotFoundError) -> UserError | None:
    """Return the error for a package that is not installed, or None if it belongs to no extra."""
    module = (error.name or "").partition(".")[0]
    for extra in ("train", "pipeline", "batch"):
        if module in MODULES[extra]:
            return _not_installed(module, extra)
    return None


def _not_installed(module: str, extra: str) -> UserError:
    return UserError(f"{module} is not installed", f"pip install 'adaptformer[{extra}]'")
