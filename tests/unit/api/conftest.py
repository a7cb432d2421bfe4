"""A run of `fit` that the tests of the API read."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from squares import mite_values, write_squares

import adaptformer as af


@pytest.fixture(scope="session")
def fitted(tmp_path_factory: pytest.TempPathFactory, stored_export: Callable[..., object]) -> af.Run:
    """A finished run, with its images beside it in squares/. Tests only read it."""
    root = tmp_path_factory.mktemp("fitted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("adaptformer.export.graph.exported", stored_export)
        return af.fit(write_squares(root / "squares"), out=root / "run", overrides=mite_values(root))
