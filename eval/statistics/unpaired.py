"""Groups of cases under one model: does a metric of a group differ from that of all other cases?

A patient may have cases inside and outside of a group. So each metric comes with its influences: what each patient adds
to it. The variance of a difference of two metrics, or of a mean of several, is then a sum of squares over patients. For
the AUROC the influences are DeLong's placements (1988, Biometrics 44:837), summed by patient as in Obuchowski 1997
(Biometrics 53:567); where no two cases are of one patient, this is DeLong's variance of two independent AUROCs exactly.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.stats import norm, rankdata
from scipy.stats import t as student

from .intervals import LEVEL, Estimate

METHOD = "delong, by patient"
NO_VARIANCE = "no interval: a class has cases of one patient only, or nothing varies between the patients"


class Gaps(NamedTuple):
    """A metric inside of each of G groups minus outside.

    Attributes:
        values: (G,), NaN where it is undefined on either side.
        influences: (G, P) by patient; NaN where it is undefined, or a class has cases of one patient only.
    """

    values: np.ndarray
    influences: np.ndarray


def auroc_gaps(truth: np.ndarray, score: np.ndarray, inside: np.ndarray, patient: np.ndarray, patients: int) -> Gaps:
    """Compare the AUROC of one label inside and outside of each group.

    Args:
        truth: (N,) of 0, 1, NaN (left out).
        score: (N,).
        inside: (N, G) boolean.
        patient: (N,) integers from 0 to `patients` - 1.
        patients: P.
    """
    return _gaps(lambda rows: _auroc(truth[rows], score[rows], patient[rows], patients), inside)


def mean_gaps(values: np.ndarray, inside: np.ndarray, patient: np.ndarray, patients: int) -> Gaps:
    """Compare the mean of (N,) values, NaN left out; the other arguments are those of `auroc_gaps`."""
    known = ~np.isnan(values)
    return _gaps(lambda rows: _mean(values[rows & known], patient[rows & known], patients), inside)


def differences(gaps: Gaps, degrees: np.ndarray | None = None) -> tuple[list[Estimate], np.ndarray]:
    """Return G differences with 95 % intervals, cut to -1..1, and two-sided p, NaN without interval.

    `degrees` (G,) of freedom make them of the t distribution; None is the normal one.
    """
    variance = (gaps.influences**2).sum(axis=1)
    variance[~(variance > 1e-15)] = np.nan  # below is rounding, not data
    error = np.sqrt(variance)
    law = norm() if degrees is None else student(np.where(degrees > 0, degrees, 1))
    half = law.ppf((1 + LEVEL) / 2) * error
    estimates = [
        Estimate(float(value), reason=NO_VARIANCE)
        if np.isnan(width)
        else Estimate(float(value), max(-1.0, float(value - width)), min(1.0, float(value + width)), method=METHOD)
        for value, width in zip(gaps.values, half)
    ]
    return estimates, 2 * law.sf(np.abs(gaps.values) / error)


def _gaps(metric: Callable[[np.ndarray], tuple[float, np.ndarray]], inside: np.ndarray) -> Gaps:
    pairs = [(metric(rows), metric(~rows)) for rows in inside.T]
    return Gaps(
        np.array([one[0] - other[0] for one, other in pairs]),
        np.array([one[1] - other[1] for one, other in pairs]),
    )


def _auroc(truth: np.ndarray, score: np.ndarray, patient: np.ndarray, patients: int) -> tuple[float, np.ndarray]:
    positive, negative = truth == 1, truth == 0
    present, absent = score[positive], score[negative]
    if not len(present) or not len(absent):
        return float("nan"), np.full(patients, np.nan)
    ranks = rankdata(np.concatenate([present, absent]))
    above = (ranks[: len(present)] - rankdata(present)) / len(absent)
    below = 1 - (ranks[len(present) :] - rankdata(absent)) / len(present)
    of_positive, of_negative = _mean(above, patient[positive], patients), _mean(below, patient[negative], patients)
    return of_positive[0], of_positive[1] + of_negative[1]


def _mean(values: np.ndarray, patient: np.ndarray, patients: int) -> tuple[float, np.ndarray]:
    """Return the mean and its (P,) influences: deviations by patient over the number of cases.

    They are widened as for a sample variance.
    """
    size = np.count_nonzero(np.bincount(patient))
    if size < 2:
        return float(values.mean()) if size else float("nan"), np.full(patients, np.nan)
    sums = np.bincount(patient, weights=values - values.mean(), minlength=patients)
    return float(values.mean()), sums / len(values) * np.sqrt(size / (size - 1))
