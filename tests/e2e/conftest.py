from __future__ import annotations

import sys
from pathlib import Path

import pytest

# The clones are those of the pipeline's tests.
sys.path.insert(0, str(Path(__file__).parents[1] / "pipeline"))


@pytest.fixture(scope="session")
def clone(tmp_path_factory):
    import clones

    return clones.make(tmp_path_factory.mktemp("server"))
