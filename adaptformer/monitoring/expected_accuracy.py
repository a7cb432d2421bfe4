"""The expected accuracy on unlabelled images, from the model's confidence in its answers.

On the validation split, a logistic regression learns how often an answer with a given confidence is correct. This holds
for new images only if confidence has the same meaning there. Drift can change that, so no estimate is given for images
that differ (permutation_drift.py).

Shapes: V validation images, N new images, D draws.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from adaptformer.base import randomness
from adaptformer.evaluation.intervals import CONFIDENCE, Interval

Floats = NDArray[np.float64]

DRAWS, _CHANCES = 500, 4
"""Number of draws from the posterior of the regression, and of draws of the new answers for each of them."""
_LEAST_DOUBT = 1e-6
_PRIOR = 0.5
"""Number of correct and of wrong answers that Jeffreys' prior adds to those on validation images."""
_PENALTY = 1e-3
"""Factor of half the squared slope, added to the loss: without it a slope is infinite if confidence parts the answers.
"""
_VALUES_AT_ONCE = 1_000_000
_STEPS, _HALVINGS, _SMALL, _NEAR = 100, 30, 1e-10, 1e-6


def estimate(confidence: Floats, right: NDArray[np.bool_], new_confidence: Floats) -> Interval:
    """Return the expected share of correct answers among new images [N], with its 95 % interval.

    `confidence` [V] is the probability of each answer on the validation split, and `right` [V] whether it is correct.
    The regression is drawn from its posterior by the Bayesian bootstrap (Rubin, Ann. Stat. 9, 1981): each validation
    answer has an exponentially distributed weight, and half a correct and half a wrong answer of median confidence are
    added. If all confidences are equal, this is the posterior under Jeffreys' prior, Beta(right + ½, wrong + ½), so 20
    correct answers of 20 do not give certainty. The interval includes the sampling error of the N new images.
    """
    given, asked = _log_odds(confidence), _log_odds(new_confidence)
    known = np.concatenate([given, np.full(2, np.median(given))])
    outcomes = np.concatenate([right, [True, False]])
    random = randomness.generator("expected accuracy", len(given), len(asked))
    at_once = max(_VALUES_AT_ONCE // max(len(known), len(asked)), 1)
    expected, drawn = [], []
    for start in range(0, DRAWS, at_once):
        draws = min(at_once, DRAWS - start)
        weights = np.hstack([random.exponential(size=(draws, len(given))), random.gamma(_PRIOR, size=(draws, 2))])
        chance = expit(_logistic_regressions(known, outcomes, weights) @ np.stack([np.ones_like(asked), asked]))
        expected.append(chance.mean(axis=1))
        drawn += [(random.random(chance.shape) < chance).mean(axis=1) for _ in range(_CHANCES)]
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(np.concatenate(drawn), [tail, 100 - tail])
    return Interval(float(np.concatenate(expected).mean()), float(low), float(high))


def _logistic_regressions(known: Floats, outcomes: NDArray[np.bool_], weights: Floats) -> Floats:
    """Return intercept and slope [D, 2] that fit the same answers with each row of weights [D, V + 2].

    Newton's method for all rows together: scikit-learn fits one at a time, which takes 10 to 300 times as long. A step
    that would raise a row's loss is halved.
    """
    signs = np.where(outcomes, 1.0, -1.0)
    design = np.stack([signs, signs * known])
    products = (design[:, np.newaxis] * design).reshape(4, -1)
    penalty = np.diag([_SMALL, _PENALTY])

    def fitted(coefficients: Floats) -> tuple[Floats, Floats]:
        """Return the probability of each outcome [D, V + 2], and the loss [D]."""
        chance = np.maximum(expit(coefficients @ design), np.finfo(np.float64).tiny)
        return chance, (coefficients @ penalty * coefficients).sum(axis=1) / 2 - (weights * np.log(chance)).sum(axis=1)

    coefficients = np.zeros((len(weights), 2))
    chance, loss = fitted(coefficients)
    for _ in range(_STEPS):
        gradient = (weights * (chance - 1)) @ design.T + coefficients @ penalty
        hessian = ((weights * chance * (1 - chance)) @ products.T).reshape(-1, 2, 2) + penalty
        step = np.linalg.solve(hessian, gradient[:, :, np.newaxis])[:, :, 0]
        for _ in range(_HALVINGS):
            chance, after = fitted(coefficients - step)
            higher = after > loss + _SMALL
            if not higher.any():
                break
            step[higher] /= 2
        coefficients, loss = coefficients - step, after
        if np.abs(step).max() < _NEAR:
            break
    return coefficients


def _log_odds(confidence: Floats) -> Floats:
    bounded = np.clip(confidence, _LEAST_DOUBT, 1 - _LEAST_DOUBT)
    log_odds: Floats = np.log(bounded / (1 - bounded))
    return log_odds
