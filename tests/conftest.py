"""What all tests share: their environment, and how pytest-xdist deals them out.

A file goes to one process, and so do files that share a costly clone.
"""

from __future__ import annotations

import os
import signal

import pytest

# There is a process for each core, and the models are so small that more threads of torch only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The library's logger reaches Prefect too; outside a flow run there is nowhere to send its lines, which is no fault.
os.environ.setdefault("PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW", "ignore")
# A shell that starts pytest in the background has SIGINT ignored, and so would every process of a test be.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SHARING = ("test_flow.py", "test_tracking.py", "test_lineage.py", "test_log.py")
"""Files below tests/pipeline/ that use the same finished clones (see conftest.py there)."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadFileScheduling

    class BySharedClones(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return "tests that share clones" if file.startswith("tests/pipeline/") and file.endswith(SHARING) else file

    # As collected, so that e2e/ and pipeline/ come first and the quick files fill up both processes at the end; xdist
    # itself would begin with the files that have many tests, and at the end one process would wait for the slow ones.
    config.option.loadscopereorder = False
    return BySharedClones(config, log)
