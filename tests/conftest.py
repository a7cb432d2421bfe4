"""How pytest-xdist deals the tests out: a file at a time, and files that share a costly clone to one process."""

from __future__ import annotations

import pytest

SHARING = ("test_flow.py", "test_tracking.py", "test_lineage.py", "test_log.py")
"""Files below tests/pipeline/ that use the same finished clones (see conftest.py there)."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadFileScheduling

    class BySharedClones(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return "tests that share clones" if file.startswith("tests/pipeline/") and file.endswith(SHARING) else file

    return BySharedClones(config, log)
