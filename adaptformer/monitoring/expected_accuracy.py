"""The expected accuracy on unlabelled images, from the model's confidence in its answers.

On the validation split, a logistic regression learns how often an answer with a given confidence is correct. This holds
for new images only if confidence has the same meaning there. Drift can change that, so no estimate is given for images
that differ (permutation_drift.py).

Shapes: V validation images, N new images.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from adaptformer.base import randomness
from adaptformer.evaluation.intervals import CONFIDENCE, Interval

DRAWS, _CHANCES = 500, 4
"""Number of draws from the posterior of the regression, and of draws of the new answers for each of them."""
_LEAST_DOUBT = 1e-6
_PRIOR = 0.5
"""Number of correct and of wrong answers that Jeffreys' prior adds to those on validation images."""


def estimate(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], new_confidence: NDArray[np.float64]
) -> Interval:
    """Return the expected share of correct answers among new images [N], with its 95 % interval.

    `confidence` [V] is the probability of each answer on the validation split, and `right` [V] whether it is correct.
    The regression is drawn from its posterior by the Bayesian bootstrap (Rubin, Ann. Stat. 9, 1981): each validation
    answer has an exponentially distributed weight, and half a correct and half a wrong answer of median confidence are
    added. If all confidences are equal, this is the posterior under Jeffreys' prior, Beta(right + ½, wrong + ½), so 20
    correct answers of 20 do not give certainty. The interval includes the sampling error of the N new images.
    """
    given, asked = _log_odds(confidence), _log_odds(new_confidence)
    middle = np.median(given)
    known = np.concatenate([given, [middle, middle]])[:, np.newaxis]
    outcomes = np.concatenate([right, [True, False]])
    random = randomness.generator("expected accuracy", len(confidence), len(new_confidence))
    expected, drawn = [], []
    for _ in range(DRAWS):
        weights = np.concatenate([random.exponential(size=len(given)), random.gamma(_PRIOR, size=2)])
        fitted = LogisticRegression(C=1e3, solver="newton-cholesky").fit(known, outcomes, weights)
        chance = fitted.predict_proba(asked[:, np.newaxis])[:, 1]
        expected.append(chance.mean())
        drawn += [(random.random(len(asked)) < chance).mean() for _ in range(_CHANCES)]
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(drawn, [tail, 100 - tail])
    return Interval(float(np.mean(expected)), float(low), float(high))


def _log_odds(confidence: NDArray[np.float64]) -> NDArray[np.float64]:
    bounded = np.clip(confidence, _LEAST_DOUBT, 1 - _LEAST_DOUBT)
    log_odds: NDArray[np.float64] = np.log(bounded / (1 - bounded))
    return log_odds
