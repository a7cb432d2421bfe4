"""Which images are worth a label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from adaptformer.monitoring import label_next


def test_a_margin_is_the_lead_of_the_best_class() -> None:
    found = label_next.margins(np.array([[0.2, 0.7, 0.1], [0.5, 0.5, 0.0], [0.05, 0.05, 0.9]]))
    np.testing.assert_allclose(found, [0.5, 0.0, 0.85])


def test_the_least_sure_of_each_kind_are_chosen() -> None:
    kinds = np.repeat([0, 1, 2], 20)  # of the first kind the model is least sure throughout
    features = (10 * np.eye(3)[kinds] + np.random.default_rng(0).normal(scale=0.1, size=(60, 3))).astype(np.float32)
    margin = 0.01 * np.arange(60)
    asked: list[int] = []

    def of(chosen: np.ndarray) -> np.ndarray:
        asked.extend(chosen.tolist())
        return features[chosen]

    chosen = label_next.choose(margin, 12, of, np.zeros(60, bool))
    assert sorted(asked) == list(range(60))
    assert {0, 20, 40} <= set(chosen.tolist())
    assert len(chosen) == 12
    assert list(margin[chosen]) == sorted(margin[chosen])


def test_what_the_model_is_sure_of_does_not_compete() -> None:
    margin = np.linspace(0, 1, 100)
    chosen = label_next.choose(
        margin, 4, lambda rows: np.random.default_rng(0).normal(size=(len(rows), 3)), np.zeros(100, bool)
    )
    assert max(chosen) < 20


def test_few_images_are_all_chosen_without_features() -> None:
    chosen = label_next.choose(np.array([0.3, 0.1, 0.2]), 3, lambda _: pytest.fail("not needed"), np.zeros(3, bool))
    assert chosen.tolist() == [1, 2, 0]


def test_the_list_to_complete_has_the_chosen_paths_in_order(tmp_path: Path) -> None:
    table = pd.DataFrame({"path": ["a.png", "b/c.png", "d.png"], "label_next": [2, 0, 1]})
    assert label_next.to_complete(table, tmp_path) == f"path,label\n{tmp_path}/d.png,\n{tmp_path}/a.png,\n"


def test_images_unlike_all_others_get_half_of_the_places() -> None:
    margin, unlike = np.linspace(0, 1, 100), np.arange(100) >= 70  # the model is sure of its answers to strange images
    features = np.random.default_rng(0).normal(size=(100, 3))
    chosen = label_next.choose(margin, 20, lambda rows: features[rows], unlike)
    assert len(set(chosen.tolist())) == 20
    assert unlike[chosen].tolist() == [False] * 10 + [True] * 10
    few = label_next.choose(margin, 20, lambda rows: features[rows], np.arange(100) >= 97)
    assert np.isin([97, 98, 99], few).all()
    assert len(few) == 20
