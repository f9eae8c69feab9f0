"""Calibration in the large and slope, each with an interval by patient (Van Calster et al. 2019, BMC Medicine 17:230).

Both are logistic regressions of the truth on the logit of the score: in the large with the slope fixed at 1 (0 is
ideal; above 0 scores are too low), the slope with a free intercept (1 is ideal; below 1 scores are too extreme). The
variance is the sandwich's with sums by patient (Liang & Zeger 1986, Biometrika 73:13).
"""

from typing import NamedTuple

import numpy as np
from scipy.special import expit
from scipy.special import logit as log_odds
from scipy.stats import t as student
from sklearn.linear_model import LogisticRegression

from .intervals import LEVEL, NO_INTERVAL, Estimate, PatientBootstrap
from .reservations import too_few

_LEAST, _MOST = 1e-6, 0.01  # distance from 0 and 1 that scores of exactly 0 or 1 are moved to, by `inner_scores`
_STEPS = 100
METHOD = "sandwich by patient, t"


class CalibrationFit(NamedTuple):
    """Attributes: `in_the_large` and `slope` with intervals; `intercept`, fitted beside the slope."""

    in_the_large: Estimate
    slope: Estimate
    intercept: Estimate


def inner_scores(score: np.ndarray) -> np.ndarray:
    """Return scores that have a logit: those of exactly 0 or 1 are moved in, half as far as the next one is away.

    So a score that was rounded to 1 at two digits becomes 0.995, the middle of what it may have been, and does not
    lever the slope. The distance is at least 1e-6 and at most 0.01.
    """
    between = score[(score > 0) & (score < 1)]
    nearest = min(between.min(), 1 - between.max()) if len(between) else 1.0
    edge = float(np.clip(nearest / 2, _LEAST, _MOST))
    at_end = (score <= 0) | (score >= 1)
    return np.where(at_end, np.clip(score, edge, 1 - edge), np.clip(score, _LEAST, 1 - _LEAST))


def calibration_fit(truth: np.ndarray, score: np.ndarray, bootstrap: PatientBootstrap) -> CalibrationFit:
    """Fit one label, `truth` (N,) of 0, 1, NaN and `score` (N,) in 0..1."""
    known = ~np.isnan(truth)
    patients = int(bootstrap.smaller_class(truth[:, None])[0])
    if known.any() and np.isin(score[known], (0, 1)).all():
        labels_only = Estimate(float("nan"), reason="all scores are 0 or 1: they are labels, not probabilities")
        equal = Estimate(float("nan"), reason=why_no_slope(truth[known], score[known]) or labels_only.reason)
        return CalibrationFit(labels_only, equal, equal)
    truth, score, index = truth[known], inner_scores(score[known]), bootstrap.index[known]
    slope, intercept, why = slope_and_intercept(truth, score)
    undefined = Estimate(float("nan"), reason=why)
    fitted = Estimate(intercept, reason=f"{NO_INTERVAL}: see calibration in the large")
    one_class = "one class only" if len(truth) else "no case with known truth"
    if not 0 < truth.sum() < len(truth):
        return CalibrationFit(Estimate(float("nan"), reason=one_class), undefined, undefined)
    odds = log_odds(score)
    shift = _shift(truth, odds)
    large = _with_interval(shift, truth, expit(odds + shift), np.ones((len(odds), 1)), index, patients)
    if why:
        return CalibrationFit(large, undefined, undefined)
    design = np.column_stack([odds, np.ones(len(odds))])
    own = _with_interval(slope, truth, expit(intercept + slope * odds), design, index, patients)
    return CalibrationFit(large, own, fitted)


def slope_and_intercept(truth: np.ndarray, score: np.ndarray) -> tuple[float, float, str]:
    """Compute the calibration slope, intercept, and why they are undefined (else empty)."""
    known = ~np.isnan(truth)
    truth, score = truth[known], inner_scores(score[known])
    if reason := why_no_slope(truth, score):
        return float("nan"), float("nan"), reason
    fit = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-8, max_iter=1000)
    fit.fit(log_odds(score)[:, None], truth)
    return float(fit.coef_[0, 0]), float(fit.intercept_[0]), ""


def why_no_slope(truth: np.ndarray, score: np.ndarray) -> str:
    """Say why no logistic regression of truth on the logit of the score is possible; empty where one is.

    `truth` (N,) is of 0 and 1, `score` (N,).
    """
    positive, negative = score[truth == 1], score[truth == 0]
    if len(positive) == 0 or len(negative) == 0:
        return "one class only" if len(truth) else "no case with known truth"
    if score.min() == score.max():
        return "all scores are equal"
    if positive.min() >= negative.max() or positive.max() <= negative.min():
        return "the classes are separated by score: the slope has no finite value"
    return ""


def sandwich(truth: np.ndarray, mean: np.ndarray, design: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return the (K, K) covariance of the coefficients of a logistic regression, with sums by patient.

    Args:
        truth: (N,) of 0 and 1.
        mean: (N,) fitted.
        design: (N, K).
        index: (N,) the cases' patients, integers.
    """
    residual = (truth - mean)[:, None] * design
    sums = np.column_stack([np.bincount(index, weights=column) for column in residual.T])
    clusters = np.count_nonzero(np.bincount(index))
    bread = np.linalg.inv((design * (mean * (1 - mean))[:, None]).T @ design)
    return bread @ (sums.T @ sums) @ bread * clusters / (clusters - 1)


def _shift(truth: np.ndarray, odds: np.ndarray) -> float:
    """Return what must be added to (N,) log odds so that as many cases are expected as are positive (Newton)."""
    low, high = -40.0 - odds.max(), 40.0 - odds.min()
    shift = 0.0
    for _ in range(_STEPS):
        mean = expit(odds + shift)
        gap = truth.sum() - mean.sum()
        low, high = (shift, high) if gap > 0 else (low, shift)
        step = shift + gap / max((mean * (1 - mean)).sum(), 1e-300)
        step = step if low < step < high else (low + high) / 2  # bisection where Newton leaves the bracket
        if abs(step - shift) < 1e-12:
            break
        shift = step
    return float(shift)


def _with_interval(
    value: float, truth: np.ndarray, mean: np.ndarray, design: np.ndarray, index: np.ndarray, patients: int
) -> Estimate:
    """Give the first coefficient of a logistic regression with (N, K) design and fitted (N,) means its interval."""
    if why := too_few(patients):
        return Estimate(value, reason=why)
    variance = sandwich(truth, mean, design, index)[0, 0]
    half = student.ppf((1 + LEVEL) / 2, patients - 1) * np.sqrt(variance)
    return Estimate(value, float(value - half), float(value + half), method=METHOD)
