"""Scores turned into probabilities: temperature and Platt scaling, fitted on validation and kept with the model.

Temperature: Guo et al. 2017 (ICML, section 4.2), logits divided by one number. Platt 1999 (Advances in Large Margin
Classifiers, section 2): a slope and an intercept, with his smoothed targets. The intercept alone (Steyerberg 2019,
Clinical Prediction Models, chapter 20) shifts every logit alike until scores are right on average, and needs the fewest
cases. All start from probabilities, whose logits they are on, and never change the order of a label's scores (to the
seven digits of a table); of exclusive classes, whose temperature is one for all, the order of classes within a case.
"""

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit, softmax
from sklearn.linear_model import LogisticRegression

from ...core.errors import UserError
from .applied_scaling import Scaling, log_probabilities, logits
from .applied_scaling import scaled as scaled
from .calibration_fit import why_no_slope

METHODS = ("temperature", "platt", "intercept")
_NOT_RISING = "the best slope is not positive: it would turn the order of the scores around"


def check_method(method: str, exclusive: bool) -> None:
    """Refuse what cannot be fitted.

    Raises:
        UserError: An unknown method, or one after which exclusive classes would not add up to 1.
    """
    if method not in METHODS:
        raise UserError(f"calibration {method!r}: use {' or '.join(METHODS)}.")
    if method != "temperature" and exclusive:
        raise UserError(
            f"{method} scales each label alone, but exclusive classes add up to 1: calibrate by temperature."
        )


def fit_scaling(
    truth: np.ndarray, scores: np.ndarray, method: str, exclusive: bool = False, split: str = "val"
) -> list[Scaling]:
    """Fit one scaling per label to validation cases; of exclusive classes the same for all.

    Args:
        truth: (N, L) of 0, 1 and NaN (unknown).
        scores: (N, L) probabilities; of exclusive classes they add up to 1.
        method: `temperature`, `platt` or `intercept`.
        exclusive: The labels are exclusive classes.
        split: Name of the split, for the record.

    Raises:
        UserError: See `check_method`.
    """
    check_method(method, exclusive)
    if exclusive:
        known = (truth == 1).any(axis=1)
        slope, reason = _common_slope(truth[known].argmax(axis=1), log_probabilities(scores[known]))
        return [Scaling("none" if reason else method, slope, 0.0, split, int(known.sum()), reason)] * truth.shape[1]
    return [_fit_one(truth[:, i], scores[:, i], method, split) for i in range(truth.shape[1])]


def _fit_one(truth: np.ndarray, score: np.ndarray, method: str, split: str) -> Scaling:
    known = ~np.isnan(truth)
    truth, x = truth[known], logits(score[known])
    if method == "intercept":
        return _shifted(truth, x, split)
    reason = why_no_slope(truth, x)
    if not reason:
        slope, intercept = _platt(truth, x) if method == "platt" else (_logistic(x, truth, intercept=False)[0], 0.0)
        reason = "" if slope > 0 else _NOT_RISING
    if reason:
        return Scaling("none", 1.0, 0.0, split, len(x), reason)
    return Scaling(method, slope, intercept, split, len(x))


def _shifted(truth: np.ndarray, x: np.ndarray, split: str) -> Scaling:
    """Fit the shift of (N,) logits after which the mean score is the share of positive cases: the likeliest one."""
    if len(np.unique(truth)) < 2:
        reason = "one class only" if len(truth) else "no case with known truth"
        return Scaling("none", 1.0, 0.0, split, len(x), reason)
    share = truth.mean()
    ends = logit(share) - x.max(), logit(share) - x.min()
    shift = brentq(lambda b: float(expit(x + b).mean() - share), ends[0] - 1, ends[1] + 1, xtol=1e-12)
    return Scaling("intercept", 1.0, float(shift), split, len(x))


def _platt(truth: np.ndarray, x: np.ndarray) -> tuple[float, float]:
    """Fit slope and intercept to Platt's targets (N+ + 1) / (N+ + 2) and 1 / (N- + 2) in place of 1 and 0.

    A case with the target t is a positive one of weight t and a negative one of weight 1 - t.
    """
    positives = truth.sum()
    target = np.where(truth == 1, (positives + 1) / (positives + 2), 1 / (len(truth) - positives + 2))
    return _logistic(np.tile(x, 2), np.repeat([1, 0], len(x)), np.concatenate([target, 1 - target]))


def _logistic(
    x: np.ndarray, truth: np.ndarray, weight: np.ndarray | None = None, intercept: bool = True
) -> tuple[float, float]:
    fit = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-8, max_iter=1000, fit_intercept=intercept)
    fit.fit(x[:, None], truth, weight)
    return float(fit.coef_[0, 0]), float(np.ravel(fit.intercept_)[0])


def _common_slope(place: np.ndarray, x: np.ndarray) -> tuple[float, str]:
    """Fit the slope that makes (N, L) log-probabilities `x` likeliest for (N,) true classes; say why there is none.

    The log loss is convex in the slope, so its derivative has one root, between a slope of 0 and one that is too large.
    """
    if len(np.unique(place)) < 2:
        return 1.0, "one class only" if len(place) else "no case with known truth"
    own = x[np.arange(len(x)), place]

    def derivative(slope: float) -> float:
        return float(((softmax(slope * x, axis=1) * x).sum(axis=1) - own).mean())

    if np.ptp(x, axis=1).max() == 0:
        return 1.0, "all scores are equal"
    if (own >= x.max(axis=1)).all():
        return 1.0, "every case is scored highest for its class: the temperature has no value above 0"
    if derivative(0) >= 0:
        return 1.0, _NOT_RISING
    above = 1.0
    while derivative(above) <= 0:
        above *= 2
    return brentq(derivative, 0, above, xtol=1e-10), ""
