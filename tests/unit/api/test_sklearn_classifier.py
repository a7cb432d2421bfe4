"""The classifier keeps scikit-learn's conventions."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from squares import mite_values, write_squares

import adaptformer as af


def of(root: Path) -> tuple[list[Path], list[str]]:
    paths = sorted(write_squares(root / "squares").glob("*/*.png"))
    return paths, [path.parent.name for path in paths]


def test_parameters_are_read_set_and_cloned_and_nothing_is_fitted(tmp_path: Path) -> None:
    classifier = af.Classifier("dinov2-small", epochs=3)
    assert is_classifier(classifier)
    assert classifier.get_params() == {"backbone": "dinov2-small", "epochs": 3, "overrides": None, "out": None}
    assert clone(classifier.set_params(epochs=5)).get_params()["epochs"] == 5
    with pytest.raises(NotFittedError):
        classifier.predict_proba([])
    with pytest.raises(af.UserError, match=r"1 paths have labels of shape \(2,\)"):
        classifier.fit([tmp_path / "a.png"], ["a", "b"])


@pytest.mark.usefixtures("blank_pictures", "exported_once")
def test_it_learns_labels_of_any_type_and_keeps_their_order(tmp_path: Path) -> None:
    paths, names = of(tmp_path)
    numbers = {"amber": 10, "blue": 9, "coral": -1}  # sorted as numbers, not as the names of folders
    labels = [numbers[name] for name in names]
    classifier = af.Classifier(overrides=mite_values(tmp_path), out=tmp_path / "run").fit(paths, labels)
    assert list(classifier.classes_) == [-1, 9, 10]
    found = classifier.predict_proba(paths)
    assert found.shape == (30, 3)
    assert np.allclose(found.sum(axis=1), 1)
    assert classifier.score(paths, labels) > 0.8
    assert np.array_equal(classifier.predict(paths), classifier.classes_[found.argmax(axis=1)])


@pytest.mark.usefixtures("blank_pictures")
def test_cross_validation_fits_a_clone_for_each_fold(tmp_path: Path) -> None:
    paths, labels = of(tmp_path)
    classifier = af.Classifier(overrides=mite_values(tmp_path, training__epochs=1))
    scores = cross_val_score(classifier, np.array([str(path) for path in paths]), labels, cv=2)
    assert scores.shape == (2,)
    assert not hasattr(classifier, "model_")


def test_a_model_in_a_temporary_folder_is_not_copied() -> None:
    classifier = af.Classifier()
    assert pickle.loads(pickle.dumps(classifier)).get_params() == classifier.get_params()
    classifier._scratch = object()  # type: ignore[assignment]
    with pytest.raises(af.UserError, match="temporary folder"):
        pickle.dumps(classifier)
