"""The map of a data set's images."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from adaptformer.curation.labels import embedding_map


def heaps(per_class: int) -> tuple[pd.DataFrame, np.ndarray]:
    labels = np.repeat(["amber", "blue", "coral"], per_class)
    features = 8 * np.eye(3)[np.repeat([0, 1, 2], per_class)] + np.random.default_rng(0).normal(size=(3 * per_class, 3))
    paths = [f"train/{label}/{i}.png" for i, label in enumerate(labels)]
    table = pd.DataFrame({"path": paths, "label": labels, "sha256": [f"{i * 7 % 101:064}" for i in range(len(labels))]})
    return table, features.astype(np.float32)


def red_pixels(png: bytes) -> int:
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    return int((np.abs(pixels - (0xD1, 0x49, 0x5B)).max(axis=2) < 12).sum())


def test_the_map_has_the_same_bytes_each_time_and_circles_suspected_images() -> None:
    table, features = heaps(12)
    plain = embedding_map.draw(table, features, set())
    assert plain == embedding_map.draw(table, features, set())
    circled = embedding_map.draw(table, features, set(table["path"][:3]))
    assert red_pixels(plain) == 0 < red_pixels(circled)
    assert red_pixels(embedding_map.draw(table, features, set(table["path"][:6]))) > red_pixels(circled)


def test_of_many_images_some_are_drawn_whatever_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_map, "IMAGES", 15)
    table, features = heaps(12)
    used: list[int] = []
    scale = embedding_map.StandardScaler.fit_transform

    def noting(self: object, rows: np.ndarray) -> np.ndarray:
        used.append(len(rows))
        return scale(self, rows)

    monkeypatch.setattr(embedding_map.StandardScaler, "fit_transform", noting)
    drawn = embedding_map.draw(table, features, set())
    assert used == [15]
    backwards = embedding_map.draw(table[::-1].reset_index(drop=True), features[::-1], set())
    assert drawn == backwards


def test_a_handful_of_images_has_no_map() -> None:
    table, features = heaps(3)
    assert embedding_map.draw(table, features, set()) == b""
