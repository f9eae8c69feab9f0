"""DeLong's variance of the AUROC, and the paired test of two models on the same cases.

DeLong, DeLong & Clarke-Pearson 1988 (Biometrics 44:837), computed from mid-ranks as in Sun & Xu 2014 (IEEE
Signal Processing Letters 21:1389), extended to several cases of one patient as in Obuchowski 1997 (Biometrics
53:567). With one case per patient the extension is DeLong's variance exactly.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import norm, rankdata
from scipy.stats import t as student

from .intervals import LEVEL, Estimate
from .reservations import MANY_PATIENTS, too_few


class DeLong(NamedTuple):
    """AUROC of M models on the same cases, (M,), and their covariance, (M, M); NaN where undefined."""

    auroc: np.ndarray
    covariance: np.ndarray


class PairedTest(NamedTuple):
    """Difference of two AUROCs (first minus second) with interval, z and two-sided p."""

    difference: Estimate
    z: float
    p: float


def delong(truth: np.ndarray, scores: np.ndarray, patients: Sequence[str] | None = None) -> DeLong:
    """Compute the AUROCs of one label by M models, and their covariance.

    Args:
        truth: (N,) of 0, 1, NaN (left out).
        scores: (N, M).
        patients: N names; cases of one patient may depend on each other. None: every case stands alone.

    Returns:
        NaN throughout where a class is missing; NaN covariance where a class has cases of one patient only.
    """
    names = np.arange(len(truth)) if patients is None else np.asarray(patients)
    patient = pd.factorize(names, use_na_sentinel=False)[0]  # numbered, not sorted: there may be a million names
    positive, negative = truth == 1, truth == 0
    m, n, models = int(positive.sum()), int(negative.sum()), scores.shape[1]
    if m == 0 or n == 0:
        return DeLong(np.full(models, np.nan), np.full((models, models), np.nan))
    known = positive | negative
    positive, scores, patient = positive[known], scores[known], patient[known]
    ranks = rankdata(scores, axis=0)
    # Placements (Sun & Xu): the share of negatives below each positive, of positives above each negative.
    above = (ranks[positive] - rankdata(scores[positive], axis=0)) / n
    below = 1 - (ranks[~positive] - rankdata(scores[~positive], axis=0)) / m
    auroc = above.mean(axis=0)
    return DeLong(auroc, _covariance(above - auroc, below - auroc, patient[positive], patient[~positive]))


def _covariance(above: np.ndarray, below: np.ndarray, of_positive: np.ndarray, of_negative: np.ndarray) -> np.ndarray:
    """Compute the covariance of the AUROCs from centred placements (m, M), (n, M), summed per patient (Obuchowski)."""
    (m, models), n = above.shape, len(below)
    size = int(max(of_positive.max(), of_negative.max())) + 1
    sums = np.zeros((2, size, models))
    has = np.zeros((2, size), dtype=bool)
    for kind, (values, patient) in enumerate(((above, of_positive), (below, of_negative))):
        sums[kind] = np.column_stack([np.bincount(patient, column, minlength=size) for column in values.T])
        has[kind, patient] = True
    with_positive, with_negative = map(int, has.sum(axis=1))
    patients = int(has.any(axis=0).sum())
    if with_positive < 2 or with_negative < 2:
        return np.full((models, models), np.nan)
    cross = sums[0].T @ sums[1] * patients / (patients - 1)
    return (
        sums[0].T @ sums[0] * with_positive / (with_positive - 1) / m**2
        + sums[1].T @ sums[1] * with_negative / (with_negative - 1) / n**2
        + (cross + cross.T) / (m * n)
    )


def delong_interval(truth: np.ndarray, score: np.ndarray, patients: Sequence[str] | None = None) -> Estimate:
    """Compute the AUROC of one label with DeLong's 95 % interval, cut to 0..1. `truth` and `score` are (N,)."""
    found = delong(truth, score[:, None], patients)
    value, variance = float(found.auroc[0]), float(found.covariance[0, 0])
    if np.isnan(value):
        return Estimate(value, reason="one class only")
    if not variance > 0:
        return Estimate(value, reason=_no_variance(variance))
    half = norm.ppf((1 + LEVEL) / 2) * np.sqrt(variance)
    return Estimate(value, max(0.0, value - half), min(1.0, value + half), method="delong")


def delong_test(truth: np.ndarray, a: np.ndarray, b: np.ndarray, patients: Sequence[str] | None = None) -> PairedTest:
    """Test whether two models' AUROCs of one label differ on the same cases; all three arrays are (N,)."""
    found = delong(truth, np.column_stack([a, b]), patients)
    value = float(found.auroc[0] - found.auroc[1])
    contrast = np.array([1.0, -1.0])
    variance = float(contrast @ found.covariance @ contrast)
    if np.isnan(value):
        return PairedTest(Estimate(value, reason="one class only"), float("nan"), float("nan"))
    # Two equal score columns leave a variance of rounding errors, not of data.
    if not variance > 1e-15:
        return PairedTest(Estimate(value, reason=_no_variance(variance)), float("nan"), float("nan"))
    half = norm.ppf((1 + LEVEL) / 2) * np.sqrt(variance)
    z = value / np.sqrt(variance)
    return PairedTest(
        Estimate(value, value - half, value + half, method="delong"), float(z), float(2 * norm.sf(abs(z)))
    )


def few_patients(test: PairedTest, patients: int) -> PairedTest:
    """Return what a test is worth where the smaller class has so many patients: nothing, or read by the t distribution.

    From `MANY_PATIENTS` on it is returned as it is.
    """
    if test.difference.reason or patients >= MANY_PATIENTS:
        return test
    value, nan = test.difference.value, float("nan")
    if why := too_few(patients):
        return PairedTest(Estimate(value, reason=why), nan, nan)
    normal = test.difference.high - value
    half = normal * student.ppf((1 + LEVEL) / 2, patients - 1) / norm.ppf((1 + LEVEL) / 2)
    p = float(2 * student.sf(abs(test.z), patients - 1))
    return PairedTest(Estimate(value, value - half, value + half, method="delong, t"), test.z, p)


def _no_variance(variance: float) -> str:
    return "a class has cases of one patient only" if np.isnan(variance) else "no variance between the cases"
