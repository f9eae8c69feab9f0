"""The flexible calibration curve: what share has the finding at each score, without bins (Van Calster et al. 2016).

Logistic regression of the truth on a restricted cubic spline of the logit of the score (Harrell 2015, Regression
Modeling Strategies, section 2.4.5; J. Clin. Epidemiol. 74:167), with a pointwise 95 % band whose variance is the
sandwich's with sums by patient.
"""

import warnings
from typing import NamedTuple

import numpy as np
from scipy.special import expit
from scipy.special import logit as log_odds
from scipy.stats import t as student
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from .calibration_fit import inner_scores, sandwich, why_no_slope
from .intervals import LEVEL, PatientBootstrap
from .reservations import ENOUGH, too_few

POINTS = 31
_EDGE = 0.025  # share of the cases at either end of the scores that the curve is not drawn over
_KNOTS = {3: (0.1, 0.5, 0.9), 4: (0.05, 0.35, 0.65, 0.95)}  # quantiles (Harrell, table 2.3)
_FEWEST = 5  # different scores: between fewer a curve would be drawn where nothing is known
_MOST = 200  # steps of the fit


class CalibrationCurve(NamedTuple):
    """One label's curve.

    Attributes:
        score: (G,) in rising order; empty where there is no curve.
        observed, low, high: (G,) share of positive cases at these scores, and its 95 % band.
        reason: Why there is no curve.
    """

    score: np.ndarray
    observed: np.ndarray
    low: np.ndarray
    high: np.ndarray
    reason: str = ""


def no_curve(reason: str) -> CalibrationCurve:
    """Return that there is none."""
    empty = np.empty(0)
    return CalibrationCurve(empty, empty, empty, empty, reason)


def calibration_curve(truth: np.ndarray, score: np.ndarray, bootstrap: PatientBootstrap) -> CalibrationCurve:
    """Fit the curve of one label, `truth` (N,) of 0, 1, NaN and `score` (N,) in 0..1.

    It has four knots; three where a class has cases of fewer than 40 patients, and none of fewer than 10.
    """
    known = ~np.isnan(truth)
    patients = int(bootstrap.smaller_class(truth[:, None])[0])
    truth, score, index = truth[known], inner_scores(score[known]), bootstrap.index[known]
    why = why_no_slope(truth, score) or too_few(patients).removeprefix("no interval: ")
    values = len(np.unique(score))
    why = why or (f"{values} different scores only" if values < _FEWEST else "")
    if why:
        return no_curve(f"no curve: {why}")
    odds = log_odds(score)
    # Knots are scores that occur: then the spline is determined, however the scores lie.
    knots = np.unique(np.quantile(odds, _KNOTS[3 if patients < ENOUGH else 4], method="inverted_cdf"))
    columns = spline(odds, knots)
    scale = np.abs(columns).max(axis=0)  # so that no column is too small for the fit
    fit = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-8, max_iter=_MOST)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            fit.fit(columns / scale, truth)
        except ConvergenceWarning:
            return no_curve("no curve: the classes are separated by score at one of its ends")
    design = np.column_stack([columns / scale, np.ones(len(odds))])
    covariance = sandwich(truth, fit.predict_proba(columns / scale)[:, 1], design, index)
    first, last = expit(np.quantile(odds, [_EDGE, 1 - _EDGE]))
    drawn = np.linspace(float(first), float(last), POINTS)
    at = np.column_stack([spline(log_odds(drawn), knots) / scale, np.ones(POINTS)])
    middle = at @ np.append(fit.coef_[0], fit.intercept_)
    half = student.ppf((1 + LEVEL) / 2, patients - 1) * np.sqrt(np.einsum("gi,ij,gj->g", at, covariance, at))
    return CalibrationCurve(drawn, expit(middle), expit(middle - half), expit(middle + half))


def spline(values: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """Return (N, K - 1) columns of a restricted cubic spline with (K,) knots: linear beyond the outer ones.

    With fewer than three knots it is the straight line.
    """
    if len(knots) < 3:
        return values[:, None]
    first, before, last = knots[0], knots[-2], knots[-1]

    def cube(knot: float) -> np.ndarray:
        return np.maximum(values - knot, 0) ** 3

    bends = [
        cube(knot) - cube(before) * (last - knot) / (last - before) + cube(last) * (before - knot) / (last - before)
        for knot in knots[:-2]
    ]
    return np.column_stack([values, *(bend / (last - first) ** 2 for bend in bends)])
