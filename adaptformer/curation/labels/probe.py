"""Simple classifiers on the features of the frozen backbone, all from scikit-learn.

Shapes: N images, D width of the backbone, C classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeClassifierCV
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from adaptformer.base import progress
from adaptformer.base.errors import UserError

NEIGHBOURS = 20
_FOLDS = 5
_ITERATIONS = 200


def first_accuracies(features: NDArray[np.float32], labels: Sequence[str], splits: Sequence[str]) -> dict[str, float]:
    """Return the validation accuracies of two classifiers fitted to the training images, by name.

    The nearest neighbours vote by cosine similarity. The linear probe is a ridge regression, solved in closed form; its
    regularisation strength is chosen by leave-one-out within train. A trained model should do better than both. The
    result is empty without validation images or a second class in train.
    """
    where, what = np.array(splits), np.array(labels)
    train, validation = where == "train", where == "validation"
    if not validation.any() or len(set(what[train])) < 2:
        return {}
    neighbours = KNeighborsClassifier(min(NEIGHBOURS, int(train.sum())), metric="cosine", weights="distance")
    classifiers = {
        f"{neighbours.n_neighbors} nearest neighbours": neighbours,
        "linear probe": RidgeClassifierCV(alphas=np.logspace(-1, 4, 6)),
    }
    return {
        name: float(
            make_pipeline(StandardScaler(), classifier)
            .fit(features[train], what[train])
            .score(features[validation], what[validation])
        )
        for name, classifier in classifiers.items()
    }


def out_of_fold(features: NDArray[np.float32], labels: NDArray[np.int64], groups: Sequence[str]) -> NDArray[np.float64]:
    """Return out-of-fold class probabilities [N, C]: for each image from a logistic regression not fitted to it.

    Images of one group are in one fold, so that no copy of an image reveals its label. An image whose class has no
    image in another fold cannot be judged: its row is NaN. `labels` [N] are class indices, each of which occurs. Raises
    UserError if no class has images of two groups.
    """
    counts = [
        len({group for group, label in zip(groups, labels, strict=True) if label == index}) for index in set(labels)
    ]
    folds = min(_FOLDS, max(counts))
    if folds < 2:
        raise UserError("no class has two images that are not copies", "add images, then check the labels again")
    probabilities = np.zeros((len(labels), int(labels.max()) + 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the ranking of the images is stable long before
        warnings.filterwarnings("ignore", "The least populated class")  # such a class is absent from some folds
        folded = StratifiedGroupKFold(folds, shuffle=True, random_state=0).split(features, labels, groups)
        for fitted, held_out in progress.steps(folded, "judging labels", folds, "folds"):
            probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=_ITERATIONS))
            probe.fit(features[fitted], labels[fitted])
            probabilities[np.ix_(held_out, probe.classes_)] = probe.predict_proba(features[held_out])
            probabilities[held_out[~np.isin(labels[held_out], probe.classes_)]] = np.nan
    return probabilities
