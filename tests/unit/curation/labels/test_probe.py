"""Simple classifiers on features: what they are fitted to, and what they judge."""

from __future__ import annotations

import numpy as np
import pytest

from adaptformer.base.errors import UserError
from adaptformer.curation.labels import probe


def clouds(per_class: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three classes of points in four dimensions, well apart."""
    numbers = np.random.default_rng(seed)
    labels = np.repeat([0, 1, 2], per_class)
    return (4 * np.eye(4)[labels] + numbers.normal(size=(len(labels), 4))).astype(np.float32), labels


def test_accuracy_is_that_of_validation_by_train_alone() -> None:
    features, labels = clouds(60)
    names = [f"class {label}" for label in labels]
    splits = ["validation" if i % 3 == 0 else "train" for i in range(len(labels))]
    found = probe.first_accuracies(features, names, splits)
    assert list(found) == ["20 nearest neighbours", "linear probe"]
    assert min(found.values()) > 0.9
    # Validation labels that train contradicts are counted as errors; nothing else in validation matters.
    wrong = [f"class {(label + 1) % 3}" if split == "validation" else f"class {label}"
             for label, split in zip(labels, splits, strict=True)]  # fmt: skip
    assert max(probe.first_accuracies(features, wrong, splits).values()) < 0.1
    tested = ["test" if split == "validation" and i % 2 else split for i, split in enumerate(splits)]
    assert min(probe.first_accuracies(features, names, tested).values()) > 0.9


def test_few_training_images_vote_all() -> None:
    features, labels = clouds(3)
    splits = ["train", "train", "validation"] * 3
    assert "6 nearest neighbours" in probe.first_accuracies(features, [str(label) for label in labels], splits)


def test_no_image_is_judged_by_itself_or_by_its_copy() -> None:
    numbers = np.random.default_rng(1)
    features = np.repeat(numbers.normal(size=(200, 300)).astype(np.float32), 2, axis=0)  # pairs of copies of noise
    labels = np.repeat(numbers.integers(0, 2, 200), 2)
    apart = probe.out_of_fold(features, labels, [str(i // 2) for i in range(400)])
    together = probe.out_of_fold(features, labels, [str(i) for i in range(400)])
    assert (apart.argmax(axis=1) == labels).mean() < 0.65
    assert (together.argmax(axis=1) == labels).mean() > 0.8


def test_an_image_whose_class_no_other_fold_has_is_not_judged() -> None:
    features, labels = clouds(20)
    features = np.concatenate([features, [[9, 9, 9, 9], [9, 9, 9, 9]]]).astype(np.float32)
    labels = np.append(labels, [3, 3])  # two images of one group: whatever judges them has not seen their class
    found = probe.out_of_fold(features, labels, [*map(str, range(60)), "one", "one"])
    assert found.shape == (62, 4)
    assert np.isnan(found[60:]).all()
    np.testing.assert_allclose(found[:60].sum(axis=1), 1, atol=1e-5)
    assert (found[:60].argmax(axis=1) == labels[:60]).mean() > 0.9


def test_where_all_are_copies_nothing_can_be_said() -> None:
    features, labels = clouds(2)
    with pytest.raises(UserError, match="no class has two images that are not copies"):
        probe.out_of_fold(features, labels, [str(label) for label in labels])
