"""The map of a data set's images."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from adaptformer.curation.labels import embedding_map


def heaps(per_class: int) -> tuple[pd.DataFrame, np.ndarray]:
    labels = np.repeat(["amber", "blue", "coral"], per_class)
    features = 8 * np.eye(3)[np.repeat([0, 1, 2], per_class)] + np.random.default_rng(0).normal(size=(3 * per_class, 3))
    paths = [f"train/{label}/{i}.png" for i, label in enumerate(labels)]
    table = pd.DataFrame({"path": paths, "label": labels, "sha256": [f"{i * 7 % 101:064}" for i in range(len(labels))]})
    return table, features.astype(np.float32)


def test_the_map_has_the_same_points_each_time_and_marks_suspected_images() -> None:
    table, features = heaps(12)
    plain = embedding_map.points(table, features, set())
    assert plain == embedding_map.points(table, features, set())
    assert [point.likely_wrong for point in plain] == [False] * 36
    suspected = set(table["path"][:3])
    marked = embedding_map.points(table, features, suspected)
    assert {point.path for point in marked if point.likely_wrong} == suspected
    assert all(0 < point.x < embedding_map.WIDTH and 0 < point.y < embedding_map.HEIGHT for point in marked)


def test_images_of_a_class_look_alike_and_lie_together() -> None:
    points = embedding_map.points(*heaps(12), set())
    looks = {(point.label, point.colour, point.shape) for point in points}
    assert len(looks) == len({label for label, _, _ in looks}) == 3
    middles = {label: np.mean([(p.x, p.y) for p in points if p.label == label], axis=0) for label, _, _ in looks}
    for point in points:
        distances = {label: np.hypot(*(middle - (point.x, point.y))) for label, middle in middles.items()}
        assert min(distances, key=distances.__getitem__) == point.label


def test_many_classes_differ_in_colour_or_shape() -> None:
    number = embedding_map.COLOURS * embedding_map.SHAPES
    looks = [embedding_map.look(index) for index in range(number)]
    assert len(set(looks)) == number > 20
    assert len({embedding_map.outline(shape, 0, 0) for _, shape in looks}) == embedding_map.SHAPES


def test_of_many_images_some_are_drawn_whatever_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_map, "IMAGES", 15)
    table, features = heaps(12)
    used: list[int] = []
    scale = embedding_map.StandardScaler.fit_transform

    def noting(self: object, rows: np.ndarray) -> np.ndarray:
        used.append(len(rows))
        return scale(self, rows)

    monkeypatch.setattr(embedding_map.StandardScaler, "fit_transform", noting)
    drawn = embedding_map.points(table, features, set())
    assert used == [15]
    backwards = embedding_map.points(table[::-1].reset_index(drop=True), features[::-1], set())
    assert drawn == backwards


def test_a_handful_of_images_has_no_map() -> None:
    table, features = heaps(3)
    assert embedding_map.points(table, features, set()) == []
