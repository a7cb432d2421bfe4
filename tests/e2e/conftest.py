from __future__ import annotations

import clones
import pytest


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone for the tests of one file: those of another would find its stages run already."""
    return clones.make(tmp_path_factory.mktemp("server"))
