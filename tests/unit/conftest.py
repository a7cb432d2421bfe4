"""What the tests of the library share, so that none leaves a trace in the next."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from picture_fixtures import contract, picture, sound, tree  # noqa: F401 - fixtures of several folders


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    """Give each test what the library sets for the whole process: the level of its logger, and torch's threads.

    One thread: the models are so small that two only wait for each other.
    """
    logger = logging.getLogger("adaptformer")
    level = logger.level
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
    yield
    logger.setLevel(level)


@pytest.fixture(scope="session")
def finished(made_once: Callable[..., Path], stored_export: Callable[..., object]) -> Path:
    """A small project that all stages have gone through, for all processes of the tests. Tests only read it."""
    import small_project

    def make(root: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(small_project.write(root))
            patch.setattr("adaptformer.export.graph.exported", stored_export)
            small_project.run_stages()

    return made_once("finished", make)


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images were embedded, by call."""
    from adaptformer.model import embedding  # with torch, which most tests do without

    counts: list[int] = []
    build = embedding.backbone_features

    def counting(*arguments: object) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
        embed = build(*arguments)

        def count(images: NDArray[np.uint8]) -> NDArray[np.float32]:
            counts.append(len(images))
            return embed(images)

        return count

    monkeypatch.setattr(embedding, "backbone_features", counting)
    return counts
