"""Intervals of errors and limits of agreement by patient, which hold with few patients too.

A mean of numbers above 0 is taken as gamma distributed, with the variance that patients show (Satterthwaite 1946,
Biometrics Bulletin 2:110; of independent normal errors that is the exact interval by chi squared). A limit of agreement
is the sum of bias and a multiple of the standard deviation, whose intervals are combined (MOVER: Zou 2013, Statist.
Methods Med. Res. 22:630, with their correlation as in Zou 2007, Psychol. Methods 12:399).
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import gamma, norm
from scipy.stats import t as student

from ..statistics.intervals import LEVEL, Estimate
from ..statistics.reservations import FEW, too_few

_TAIL = (1 - LEVEL) / 2
_METHODS = {"mae": "gamma, by patient", "rmse": "gamma, by patient", "bias": "t, by patient"} | dict.fromkeys(
    ("limit_low", "limit_high"), "MOVER, by patient"
)
_NOTHING_VARIES = "no interval: nothing varies between the patients"
_SAME = 1e-12  # a share of the errors' size, below which they do not differ


def error_intervals(errors: np.ndarray, index: np.ndarray, limit: float) -> dict[str, Estimate]:
    """Return `mae`, `rmse`, `bias`, `limit_low` and `limit_high`.

    Args:
        errors: (N,) predicted minus true.
        index: (N,) numbers of the patients.
        limit: Standard deviations from bias to limit.
    """
    size, patients = len(errors), len(np.unique(index))
    bias, mae, mse = float(errors.mean()), float(np.abs(errors).mean()), float((errors**2).mean())
    variance = float(((errors - bias) ** 2).sum() / max(size - 1, 1))
    std = variance**0.5
    values = {
        "mae": mae,
        "rmse": mse**0.5,
        "bias": bias,
        "limit_low": bias - limit * std,
        "limit_high": bias + limit * std,
    }
    if patients < FEW:
        return {name: Estimate(value, reason=too_few(patients)) for name, value in values.items()}
    if std <= _SAME * mse**0.5:
        return {name: Estimate(value, reason=_NOTHING_VARIES) for name, value in values.items()}
    by_patient = _influences(np.column_stack([np.abs(errors), errors**2, errors, (errors - bias) ** 2]), index)
    covariance = by_patient.T @ by_patient * patients / (patients - 1)
    # Few patients seldom show the tails, on which the variance of a square rests: it is that of normal errors at least.
    least = _least_variance(errors - bias, index)
    for place, square in ((1, mse), (3, variance)):
        covariance[place, place] = max(covariance[place, place], square**2 * least)
    ends: dict[str, Sequence[float]] = {"mae": _of_mean(mae, max(covariance[0, 0], _SAME * mae**2), patients)}
    ends["rmse"] = tuple(np.sqrt(_of_mean(mse, covariance[1, 1], patients)))
    half = float(student.ppf(1 - _TAIL, patients - 1) * np.sqrt(covariance[2, 2]))
    ends["bias"] = bias - half, bias + half
    low, high = limit * (np.sqrt(_of_mean(variance, covariance[3, 3], patients)) - std)  # below and above 0
    together = float(covariance[2, 3] / np.sqrt(covariance[2, 2] * covariance[3, 3])) if covariance[2, 2] > 0 else 0.0
    upper, lower = values["limit_high"], values["limit_low"]
    ends["limit_high"] = upper - _joined(half, -low, together), upper + _joined(half, high, together)
    ends["limit_low"] = lower - _joined(half, high, -together), lower + _joined(half, -low, -together)
    found = {name: Estimate(values[name], float(a), float(b), method=_METHODS[name]) for name, (a, b) in ends.items()}
    # Errors of one size, above and below 0.
    return found if covariance[0, 0] > 0 else found | {"mae": Estimate(mae, reason=_NOTHING_VARIES)}


def _least_variance(residuals: np.ndarray, index: np.ndarray) -> float:
    """Return the variance of the mean square of normal errors, as a share of its square; those of a patient are alike.

    The squares of two normal values correlate as the square of their own correlation.
    """
    sums, cases = np.bincount(index, weights=residuals), np.bincount(index)
    pairs = float((cases * (cases - 1)).sum())
    alike = ((sums**2).sum() - (residuals**2).sum()) / pairs / (residuals**2).mean() if pairs else 0.0
    return 2 * (len(residuals) + pairs * min(max(alike, 0.0), 1.0) ** 2) / len(residuals) ** 2


def _influences(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return the (P, K) influence of each patient on the means of (N, K) values."""
    off = (values - values.mean(axis=0)) / len(values)
    return np.column_stack([np.bincount(index, weights=column) for column in off.T])


def _of_mean(mean: float, variance: float, patients: int) -> tuple[float, float]:
    """Return both ends of the interval of a mean above 0; its variance is estimated from so many patients."""
    widened = variance * (student.ppf(1 - _TAIL, patients - 1) / norm.ppf(1 - _TAIL)) ** 2
    shape = mean**2 / widened
    return float(mean * shape / gamma.isf(_TAIL, shape)), float(mean * shape / gamma.ppf(_TAIL, shape))


def _joined(one: float, other: float, together: float) -> float:
    """Return how far the end of a sum is from it, from those of its parts, which are correlated."""
    return float(np.sqrt(max(0.0, one**2 + other**2 + 2 * together * one * other)))
