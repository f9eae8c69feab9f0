"""Tests that may be looked at after every patient and stopped at any time: betting martingales for bounded means.

Who bets against "the mean is at most m", a share of the wealth on each next patient, gets rich only if it is false:
where it is true, wealth is a supermartingale and reaches 1 / alpha at any time with a chance of at most alpha (Ville).
Waudby-Smith & Ramdas 2024, Journal of the Royal Statistical Society B 86:1-27: "Estimating means of bounded random
variables by betting"; bets on a grid of shares, mixed as in their hedged grid. A part of the wealth is kept for bets
that begin later, so that a shift after a long quiet time is found too (a mixture is a martingale again). Nothing is
assumed of a patient's value but that it lies in 0..1 and what its mean is, given all patients before.
"""

import math

import numpy as np
from scipy.special import logsumexp

# Shares of the wealth on one patient, of the largest that can be lost; large ones find large shifts fast.
BETS = tuple(0.9 / 2**place for place in range(10))
EVERY = 50  # patients after which a further part of the wealth begins to bet
_HALVINGS = 40  # of an interval that holds a bound


def log_evidence(values: np.ndarray, bound: np.ndarray | float) -> np.ndarray:
    """Return the logarithm of the evidence that means lie above a bound, after each patient.

    Args:
        values: (..., T) in 0..1, in the order of time.
        bound: (...) in 0..1, of each series.

    Returns:
        (..., T): of an e-process; its exponential reaches 1 / alpha at any time with a chance of at most alpha, if
        every value has a mean of at most the bound, given those before. A bound of 1 or above gives 0 throughout.
    """
    values, bound = np.asarray(values, np.float64), np.asarray(bound, np.float64)[..., None]
    payoff = np.where(bound < 1, values / np.maximum(bound, np.finfo(float).tiny) - 1, 0.0)
    place = np.arange(values.shape[-1])
    number = place // EVERY + 1.0
    # Parts 1/2, 1/6, 1/12, ... of the wealth; 1 / (number + 1) is left for those to come.
    begun = np.where(place % EVERY == 0, -np.log(number * (number + 1)), -np.inf)
    mixed = np.full(values.shape, -np.inf)
    for share in BETS:
        step = np.log1p(share * payoff)
        grown = np.cumsum(step, axis=-1)
        mixed = np.logaddexp(mixed, grown + np.logaddexp.accumulate(begun - (grown - step), axis=-1))
    return np.logaddexp(mixed - math.log(len(BETS)), -np.log(number + 1))


def two_sided_evidence(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the evidence that a mean has left its bounds, after each patient, and what it is made of.

    Args:
        values: (T, K) in 0..1: K means of the same patients, in the order of time.
        low: (K,) lower bounds.
        high: (K,) upper bounds.

    Returns:
        (T,) logarithms of one e-process of all K, and (T, 2 K) of its parts: K below, then K above.
    """
    parts = np.concatenate([log_evidence(1 - values.T, 1 - low), log_evidence(values.T, high)]).T
    return logsumexp(parts, axis=1) - math.log(parts.shape[1]), parts


def first_alarm(evidence: np.ndarray, alpha: float) -> int | None:
    """Return the first place of (T,) logarithms of evidence that reaches 1 / alpha; None where none does."""
    over = np.flatnonzero(evidence >= -math.log(alpha))
    return int(over[0]) if len(over) else None


def mean_bounds(values: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Return bounds of means by the same bets, which hold for any number of patients, at any time too.

    Args:
        values: (P, K) in 0..1, of P patients.
        alpha: Chance that the interval of one of the K means misses it; half of it on each side.

    Returns:
        (K,) lower and (K,) upper bounds, rounded outwards to 6 digits.
    """
    low = np.array([_lower(column, alpha / 2) for column in values.T])
    high = np.array([1 - _lower(1 - column, alpha / 2) for column in values.T])
    return np.floor(low * 1e6) / 1e6, np.ceil(high * 1e6) / 1e6


def _lower(values: np.ndarray, alpha: float) -> float:
    """Return the least mean that (P,) values do not reject with a chance of `alpha`."""
    found, counts = np.unique(values, return_counts=True)
    inside, outside = float(np.dot(found, counts) / counts.sum()), 0.0  # the bound lies between; evidence falls with m
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        if middle <= 0:
            break
        wealth = [np.dot(counts, np.log1p(share * (found / middle - 1))) for share in BETS]
        if logsumexp(wealth) - math.log(len(BETS)) >= -math.log(alpha):
            outside = middle
        else:
            inside = middle
    return outside
