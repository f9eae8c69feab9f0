"""Whether a score of 0.3 means that 3 in 10 have the finding: by bins, as a curve, and in three numbers.

See `calibration_fit` for calibration in the large and slope, `calibration_curve` for the curve.
"""

from dataclasses import dataclass

import numpy as np

from .calibration_curve import CalibrationCurve, calibration_curve
from .calibration_fit import CalibrationFit, calibration_fit
from .intervals import NO_INTERVAL, Estimate, PatientBootstrap, proportions
from .metrics import ratio

BINS = 10
CASES_PER_BIN = 20
NO_ZERO = f"{NO_INTERVAL}: a distance is above 0 by chance alone; compare it with the one expected by chance"
BY_CHANCE = f"{NO_INTERVAL}: what the error is on average where scores are right"


@dataclass(frozen=True)
class Calibration:
    """One label's calibration.

    Attributes:
        mean_score: (B,) mean score of each bin.
        observed: B shares of positive cases, with intervals.
        cases: (B,) cases in each bin.
        error: Expected calibration error over these bins, without interval.
        by_chance: What it would be on average if the scores were right.
        fit: Calibration in the large and slope.
        curve: The flexible curve with its band.
    """

    mean_score: np.ndarray
    observed: list[Estimate]
    cases: np.ndarray
    error: Estimate
    by_chance: Estimate
    fit: CalibrationFit
    curve: CalibrationCurve


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
    error, by_chance = _calibration_error(inside, truth, score)
    fit, curve = calibration_fit(truth, score, bootstrap), calibration_curve(truth, score, bootstrap)
    return Calibration(mean_score, observed, cases, error, by_chance, fit, curve)


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


def _calibration_error(inside: np.ndarray, truth: np.ndarray, score: np.ndarray) -> tuple[Estimate, Estimate]:
    """Compute the ECE (Naeini et al. 2015), and what it would be by chance: two estimates.

    It is the distance of observed share and mean score, averaged over cases. A distance is above 0 by noise alone, so
    an interval would exclude 0 for perfect scores too. Instead its mean is given for scores that are right (the mean of
    a normal deviate's size; cases of one patient are taken as independent).
    """
    if inside.shape[1] == 0:
        empty = Estimate(float("nan"), reason="no case with known truth")
        return empty, empty
    gaps = np.where(inside, (np.nan_to_num(truth) - score)[:, None], 0.0)
    value = np.abs(gaps.sum(axis=0)).sum() / inside.sum()
    noise = np.sqrt(np.where(inside, (score * (1 - score))[:, None], 0.0).sum(axis=0)).sum() * np.sqrt(2 / np.pi)
    return Estimate(float(value), reason=NO_ZERO), Estimate(float(noise / inside.sum()), reason=BY_CHANCE)
