"""Adapts an MAE-pretrained Vision Transformer to labelled images with AdaptFormer's parallel adapters."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adaptformer.api.checking import check, label_errors
    from adaptformer.api.classifier import Classifier
    from adaptformer.api.fitting import fit
    from adaptformer.api.model import Answer, Model, load
    from adaptformer.api.run import Metrics, Report, Run, Score
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
    "Classifier": "api.classifier",
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

    value = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the names of the API beside those of the module."""
    return sorted({*globals(), *__all__})


# OpenMP reads this variable when torch is loaded. By default its threads spin while they wait: beside any other busy
# process a training step then takes ten times as long. Sleeping threads cost next to nothing on an idle machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

NO_TELEMETRY = {
    "DO_NOT_TRACK": "true",  # Prefect, and others that follow this convention
    "DVC_NO_ANALYTICS": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "ITERATIVE_DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "ORT_DISABLE_TELEMETRY": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Variables without which a dependency reports home (docs/telemetry.md). Each dependency reads its own on import."""
for _name, _value in NO_TELEMETRY.items():
    os.environ.setdefault(_name, _value)

# A proxy cannot reach the servers of this machine: Prefect's temporary server, those of `make up`, a local store.
if any(os.environ.get(name) for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")):
    for _name in ("NO_PROXY", "no_proxy"):
        _hosts = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
        if _hosts.strip() != "*" and "127.0.0.1" not in _hosts:
            os.environ[_name] = ",".join(host for host in (_hosts, "127.0.0.1", "localhost", "::1") if host)
