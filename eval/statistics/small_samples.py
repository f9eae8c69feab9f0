"""Intervals that cover where a class has few patients, or a metric is perfect: score and exact methods.

Newcombe 2006 (Statistics in Medicine 25:559, method 5) for the AUROC; Clopper & Pearson 1934 (Biometrika 26:404) for
proportions, with the effective sample size of Korn & Graubard 1998 (Survey Methodology 24:193) where patients have
several cases; Newcombe 2001 (Statistics in Medicine 20:2889) for the mean of two proportions.
"""

from collections.abc import Callable

import numpy as np
from scipy.optimize import brentq
from scipy.stats import beta, norm
from scipy.stats import t as student

LEVEL = 0.95
_TAIL = (1 - LEVEL) / 2
_EDGE = 1e-12


def effective_patients(index: np.ndarray) -> float:
    """Return how many patients (N,) cases are worth: fewer than there are where some have many more cases than others.

    Kish 1965, Survey Sampling, section 11.7. `index` numbers the patients.
    """
    cases = np.bincount(index)
    return float(cases.sum() ** 2 / (cases**2).sum()) if len(cases) else 0.0


def auroc_interval(auroc: float, positives: float, negatives: float, disjoint: int) -> tuple[float, float]:
    """Compute a 95 % interval of an AUROC on few patients.

    A perfect AUROC, 1 or 0, is read as exactly as many independent pairs in the right order as the smaller class has
    patients, which holds for any scores.

    Args:
        auroc: On the cases.
        positives: Effective patients with a positive case.
        negatives: The same with a negative case.
        disjoint: The most pairs that the patients can make when none is in two of them.
    """
    pairs = min(positives, negatives, disjoint)
    if auroc >= 1 - _EDGE:
        return float(_TAIL ** (1 / pairs)), 1.0
    if auroc <= _EDGE:
        return 0.0, float(1 - _TAIL ** (1 / pairs))
    n, z = (positives + negatives) / 2 - 1, norm.isf(_TAIL)

    def outside(true: float) -> float:
        spread = 1 + n * (1 - true) / (2 - true) + n * true / (1 + true)
        return (auroc - true) ** 2 - z**2 * true * (1 - true) * spread / (positives * negatives)

    return _root(outside, _EDGE, auroc, 0.0), _root(outside, auroc, 1 - _EDGE, 1.0)


def _root(function: Callable[[float], float], low: float, high: float, otherwise: float) -> float:
    return float(brentq(function, low, high)) if function(low) * function(high) < 0 else otherwise


def exact(hits: float, cases: float) -> tuple[float, float]:
    """Compute the exact 95 % interval of a proportion; both numbers may be fractions of an effective sample."""
    low = float(beta.ppf(_TAIL, hits, cases - hits + 1)) if hits > 0 else 0.0
    high = float(beta.isf(_TAIL, hits + 1, cases - hits)) if hits < cases else 1.0
    return low, high


def effective_cases(share: float, variance: float, cases: int, patients: int) -> float:
    """Return of how many independent cases a proportion of cases of fewer patients is worth.

    The design effect is estimated from so many patients, so the size shrinks by the ratio of two t quantiles.

    Args:
        share: The proportion, neither 0 nor 1.
        variance: Of it, between patients.
        cases: Counted.
        patients: That they are of, two or more.
    """
    size = min(share * (1 - share) / variance, cases) if variance > 0 else patients
    return size * (student.ppf(1 - _TAIL, cases - 1) / student.ppf(1 - _TAIL, patients - 1)) ** 2


def mean_of_two(one: tuple[float, float, float], two: tuple[float, float, float]) -> tuple[float, float]:
    """Compute the interval of the mean of two independent proportions from `value, low, high` of each (MOVER)."""
    mean = (one[0] + two[0]) / 2
    below = np.hypot(one[0] - one[1], two[0] - two[1]) / 2
    above = np.hypot(one[2] - one[0], two[2] - two[0]) / 2
    return float(max(0.0, mean - below)), float(min(1.0, mean + above))
