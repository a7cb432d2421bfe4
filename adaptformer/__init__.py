"""Adapts an MAE-pretrained Vision Transformer to labelled images with AdaptFormer's parallel adapters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adaptformer.api.checking import check, label_errors
    from adaptformer.api.fitting import fit
    from adaptformer.api.model import Answer, Model, load
    from adaptformer.api.run import Metrics, Report, Run, Score
    from adaptformer.api.sklearn_classifier import Classifier
    from adaptformer.base.errors import UserError

__all__ = [
    "Answer",
    "Classifier",
    "Metrics",
    "Model",
    "Report",
    "Run",
    "Score",
    "UserError",
    "check",
    "fit",
    "label_errors",
    "load",
]

_PLACES = {
    "check": "api.checking",
    "label_errors": "api.checking",
    "Classifier": "api.sklearn_classifier",
    "fit": "api.fitting",
    "Answer": "api.model",
    "Model": "api.model",
    "load": "api.model",
    "Metrics": "api.run",
    "Report": "api.run",
    "Run": "api.run",
    "Score": "api.run",
    "UserError": "base.errors",
}
"""The module of each name: it is imported when the name is first used, so that `import adaptformer` takes no time."""


def __getattr__(name: str) -> Any:
    """Return a name of the API. Raises AttributeError for another one."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    from adaptformer.base import environment

    environment.prepare()
    value = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the names of the API beside those of the module."""
    return sorted({*globals(), *__all__})
