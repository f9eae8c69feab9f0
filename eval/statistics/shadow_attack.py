"""Membership by comparison with shadow heads: is the model's loss of a case smaller than others' who never saw it?

Watson et al. 2022 ("On the Importance of Difficulty Calibration in Membership Inference Attacks", ICLR): from the loss
of a case its difficulty is taken off, the mean loss of reference models that were trained without it. Whoever attacks
with data of his own trains whole networks; here they are linear heads on the model's own features, each on one half of
the patients: less than such an attacker can do, and hours less. More cases make better heads: what is measured is the
attack with an archive of this size.
"""

import warnings
from collections.abc import Sequence

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from .membership import losses

SHADOWS = 16
PENALTY = 0.01  # C of the logistic regression: strong, for there may be more features than images
LEAST = 5  # patients with and without a finding in a half, to fit a head


def difficulty(features: np.ndarray, truth: np.ndarray, patients: Sequence[str], *, seed: int = 0) -> np.ndarray:
    """Return the mean loss of each case by shadow heads that were trained without its patient.

    Args:
        features: (N, D).
        truth: (N, L) of 0, 1 and NaN.
        patients: N names; a half has all images of a patient or none.
        seed: Of the halves.

    Returns:
        (N,), NaN where no head that did not see the case knows one of its labels.
    """
    who = np.unique(np.asarray(patients, str), return_inverse=True)[1]
    draw, total, count = np.random.default_rng(seed), np.zeros(len(truth)), np.zeros(len(truth), int)
    for _ in range(SHADOWS):
        half = draw.permutation(who.max() + 1) < (who.max() + 1) // 2
        inside = half[who]
        scores = np.full(truth.shape, np.nan)
        for label in range(truth.shape[1]):
            scores[~inside, label] = _head(features, truth[:, label], who, inside)
        loss = losses(truth, scores)
        known = ~np.isnan(loss)
        total[known] += loss[known]
        count[known] += 1
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _head(features: np.ndarray, truth: np.ndarray, who: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return the probabilities of the cases outside by a head on those inside; NaN where these are too few."""
    rows = inside & ~np.isnan(truth)
    if min(len(np.unique(who[rows & (truth == value)])) for value in (0, 1)) < LEAST:
        return np.full(int((~inside).sum()), np.nan)
    fit = make_pipeline(StandardScaler(), LogisticRegression(C=PENALTY, max_iter=500))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a head that stops early is a weaker head
        return fit.fit(features[rows], truth[rows]).predict_proba(features[~inside])[:, 1]
