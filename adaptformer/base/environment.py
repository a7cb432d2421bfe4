"""Variables of the process that dependencies read when they are imported: no telemetry, how threads wait, proxies.

`import adaptformer` alone sets none of them, so a program that only imports it keeps its process as it was. They are
set when a name of the API is used, by every command, flow and task, and by each folder of the library that imports such
a dependency. A variable that is set already keeps its value.
"""

from __future__ import annotations

import os

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


def prepare() -> None:
    """Set the variables in this process and those that it starts; a second call does no harm."""
    # OpenMP reads these when torch is loaded. By default its threads spin for milliseconds while they wait, so beside
    # two busy processes a training step of the bundled backbone takes six times as long. Threads that sleep at once
    # make it 1.8 times as long on an idle machine; after a short spin it is 1.2 times (benchmarks/waiting_threads.py).
    # Only GNU's OpenMP, which torch has on Linux, reads the second one; elsewhere the threads sleep at once.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", "5000")
    for name, value in NO_TELEMETRY.items():
        os.environ.setdefault(name, value)
    _bypass_proxies()


def _bypass_proxies() -> None:
    """Reach the servers of this machine directly: Prefect's temporary server, those of `make up`, a local store."""
    if not any(os.environ.get(name) for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")):
        return
    for name in ("NO_PROXY", "no_proxy"):
        hosts = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
        if hosts.strip() != "*" and "127.0.0.1" not in hosts:
            os.environ[name] = ",".join(host for host in (hosts, "127.0.0.1", "localhost", "::1") if host)
