"""The accuracy to expect on images without labels, from the model's confidence in its answers.

On the validation split, whose labels are known, a logistic regression learns how often an answer of some confidence is
right. It holds for new images as far as the same confidence still means the same: drift can break that, and is
reported beside it.

Shapes: V validation images, N new images, R resamples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from adaptformer import randomness
from adaptformer.evaluation.intervals import CONFIDENCE, Interval

RESAMPLES, _DRAWS = 100, 20
"""Of the validation split, and of the new images' answers by each."""
_LEAST_DOUBT = 1e-6


def estimate(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], new_confidence: NDArray[np.float64]
) -> Interval:
    """Return the expected share of right answers among new images [N], with its 95 % interval.

    `confidence` [V] is the probability of each answer on the validation split, and `right` [V] whether it is right. The
    interval holds both what so few validation images leave open (the bootstrap) and the chance of N images.
    """
    given, asked = _log_odds(confidence), _log_odds(new_confidence)
    random = randomness.generator("expected accuracy", len(confidence), len(new_confidence))
    drawn = []
    for _ in range(RESAMPLES):
        rows = random.integers(0, len(given), len(given))
        chance = _fitted(given[rows], right[rows], asked)
        drawn += [(random.random(len(asked)) < chance).mean() for _ in range(_DRAWS)]
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(drawn, [tail, 100 - tail])
    return Interval(float(_fitted(given, right, asked).mean()), float(low), float(high))


def _fitted(log_odds: NDArray[np.float64], right: NDArray[np.bool_], asked: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how likely an answer is right, for the log odds of its confidence.

    One right and one wrong answer of middling confidence are added, so that a split without errors promises no
    certainty.
    """
    middle = np.median(log_odds)
    known = np.concatenate([log_odds, [middle, middle]])[:, np.newaxis]
    calibrated = LogisticRegression(C=1e3, solver="newton-cholesky").fit(known, np.concatenate([right, [True, False]]))
    found: NDArray[np.float64] = calibrated.predict_proba(asked[:, np.newaxis])[:, 1]
    return found


def _log_odds(confidence: NDArray[np.float64]) -> NDArray[np.float64]:
    bounded = np.clip(confidence, _LEAST_DOUBT, 1 - _LEAST_DOUBT)
    found: NDArray[np.float64] = np.log(bounded / (1 - bounded))
    return found
