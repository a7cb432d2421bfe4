from __future__ import annotations

import clones
import pytest


@pytest.fixture(scope="session")
def clone(tmp_path_factory):
    return clones.make(tmp_path_factory.mktemp("server"))
