"""Settings of the environment that every test, and every process a test starts, runs in."""

from __future__ import annotations

import os

# `make test` runs a worker on each core, and the models are so small that more threads only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The library's logger also goes to Prefect; outside a flow run there is nowhere to send its lines, which is no fault.
os.environ.setdefault("PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW", "ignore")
