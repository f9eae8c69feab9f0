"""Whether a score of 0.3 means that 3 in 10 have the finding: reliability curve, error, slope, intercept.

Van Calster et al. 2019 (BMC Medicine 17:230) for what the metrics mean: intercept 0 and slope 1 are ideal; a
slope below 1 says that scores are too extreme.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression

from .intervals import Estimate, PatientBootstrap, percentile, proportions
from .metrics import ratio

BINS = 10
CASES_PER_BIN = 20
_EDGE = 1e-6  # scores of exactly 0 or 1 have no logit; they are moved in by this much


@dataclass(frozen=True)
class Calibration:
    """One label's calibration.

    Attributes:
        mean_score: (B,) mean score of each bin.
        observed: B shares of positive cases, with intervals.
        cases: (B,) cases in each bin.
        error: Expected calibration error over these bins, with interval.
        slope, intercept: Of the logistic regression of the truth on the logit of the score.
        reason: Why slope and intercept are undefined.
    """

    mean_score: np.ndarray
    observed: list[Estimate]
    cases: np.ndarray
    error: Estimate
    slope: float
    intercept: float
    reason: str


def calibration(truth: np.ndarray, score: np.ndarray, bootstrap: PatientBootstrap) -> Calibration:
    """Compute the calibration of one label, `truth` (N,) of 0, 1, NaN and `score` (N,) in 0..1.

    Ten bins, fewer where they would hold fewer than 20 cases each.
    """
    bins = int(np.clip((~np.isnan(truth)).sum() // CASES_PER_BIN, 1, BINS))
    bin_of = equal_mass_bins(np.where(np.isnan(truth), np.nan, score), bins)
    inside = bin_of[:, None] == np.arange(bin_of.max(initial=-1) + 1)
    cases = inside.sum(axis=0)
    hits = np.where(inside, truth[:, None], np.nan)
    mean_score = ratio(np.where(inside, score[:, None], 0.0).sum(axis=0), cases)
    observed = proportions(hits, bootstrap, ["empty bin"] * len(cases))
    slope, intercept, reason = slope_and_intercept(truth, score)
    error = _calibration_error(inside, truth, score, bootstrap)
    return Calibration(mean_score, observed, cases, error, slope, intercept, reason)


def equal_mass_bins(score: np.ndarray, bins: int) -> np.ndarray:
    """Return the bin of each case (N,), 0 = lowest scores, -1 where the score is NaN.

    Bins hold about the same number of cases; equal scores are never parted, so there may be fewer bins.
    """
    known = ~np.isnan(score)
    bin_of = np.full(len(score), -1)
    if known.any():
        values = score[known]
        edges = np.unique(np.quantile(values, np.arange(1, bins) / bins))
        bin_of[known] = np.unique(np.searchsorted(edges, values, side="left"), return_inverse=True)[1]
    return bin_of


def slope_and_intercept(truth: np.ndarray, score: np.ndarray) -> tuple[float, float, str]:
    """Compute the calibration slope, intercept, and why they are undefined (else empty)."""
    known = ~np.isnan(truth)
    truth, score = truth[known], np.clip(score[known], _EDGE, 1 - _EDGE)
    if reason := why_no_slope(truth, score):
        return float("nan"), float("nan"), reason
    logit = np.log(score / (1 - score))
    fit = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-8, max_iter=1000)
    fit.fit(logit[:, None], truth)
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


def _calibration_error(
    inside: np.ndarray, truth: np.ndarray, score: np.ndarray, bootstrap: PatientBootstrap
) -> Estimate:
    """Compute the ECE (Naeini et al. 2015): distance of observed share and mean score, averaged over cases."""
    if inside.shape[1] == 0:
        return Estimate(float("nan"), reason="no case with known truth")
    gaps = np.where(inside, (np.nan_to_num(truth) - score)[:, None], 0.0)
    value = np.abs(gaps.sum(axis=0)).sum() / inside.sum()
    draws = bootstrap.sums(np.concatenate([gaps, inside], axis=1))
    gaps_drawn, cases_drawn = np.split(draws, 2, axis=1)
    drawn = ratio(np.abs(gaps_drawn).sum(axis=1), cases_drawn.sum(axis=1))
    # A distance grows with noise, and each resample adds some: the draws are moved back by that bias.
    drawn = np.maximum(0, drawn - (np.nanmean(drawn) - value)) if len(drawn) else drawn
    return percentile(float(value), drawn)
