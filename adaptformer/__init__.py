"""Adapts an MAE-pretrained Vision Transformer to labelled images with AdaptFormer's parallel adapters."""

import os

# OpenMP reads it as torch is loaded. By default its threads spin while they wait: beside any other busy process a
# training step then takes ten times as long. Sleeping threads cost next to nothing on an idle machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

NO_TELEMETRY = {
    "DO_NOT_TRACK": "true",  # Prefect, and others that keep to this convention
    "DVC_NO_ANALYTICS": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "ITERATIVE_DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "ORT_DISABLE_TELEMETRY": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Variables without which a dependency reports home (docs/telemetry.md). Each reads its own as it is imported."""
for _name, _value in NO_TELEMETRY.items():
    os.environ.setdefault(_name, _value)
