"""One-sided exact bounds of a proportion, by patient, and how many cases it takes to show one.

Clopper & Pearson 1934 (Biometrika 26:404); of several cases per patient with the effective number of cases of Korn &
Graubard 1998 (Survey Methodology 24:193). They hold for all or no hits and for a handful of cases, where a normal
interval does not.
"""

import numpy as np
from scipy.stats import beta, binom, norm, t

POWER = 0.8
_MOST = 2_000_000  # cases up to which a number is looked for


def exact_bounds(hits: float, cases: float, confidence: float) -> tuple[float, float]:
    """Return the lower and the upper bound of `hits` in `cases` (real numbers allowed), each one-sided.

    Args:
        hits: How many are.
        cases: How many count; with none the bounds are 0 and 1.
        confidence: With which each of them holds alone, such as 0.95.
    """
    low = float(beta.ppf(1 - confidence, hits, cases - hits + 1)) if hits > 0 else 0.0
    high = float(beta.ppf(confidence, hits + 1, cases - hits)) if hits < cases else 1.0
    return low, high


def effective_cases(hits: np.ndarray, patients: np.ndarray, confidence: float) -> float:
    """Return as how many independent cases these count, for cases of one patient resemble each other.

    Args:
        hits: (N,) boolean.
        patients: (N,) integers from 0.
        confidence: Of the bound that is made of it.

    Returns:
        N where every patient has one case; else fewer, and where all or none are hits the number of patients.
    """
    cases = len(hits)
    sizes = np.bincount(patients)
    groups = int((sizes > 0).sum())
    if groups == cases or cases == 0:
        return float(cases)
    share = hits.mean()
    if share in (0, 1) or groups < 2:
        return float(groups)
    off = np.bincount(patients, weights=hits - share)
    variance = groups / (groups - 1) * (off**2).sum() / cases**2
    if variance == 0:
        return float(groups)
    few = (t.ppf(confidence, cases - 1) / t.ppf(confidence, groups - 1)) ** 2
    return float(min(cases, few * share * (1 - share) / variance))


def cases_to_show(rate: float, floor: float, confidence: float, power: float = POWER) -> int | None:
    """Return how many independent cases show that a rate is above `floor`, with the exact bound.

    Args:
        rate: That the cases really have.
        floor: That the lower bound must reach.
        confidence: Of the bound.
        power: Chance that it is shown.

    Returns:
        The number from which on the chance stays; None where the rate is not above the floor, or beyond two million.
    """
    if not rate > floor:
        return None
    if rate >= 1:
        return int(np.ceil(np.log(1 - confidence) / np.log(floor)))
    guess = _normal_cases(rate, floor, confidence, power)
    if guess > _MOST:
        return None
    cases = np.arange(1, int(3 * guess) + 100)
    enough = _power(cases, rate, floor, confidence) >= power
    return int(cases[~enough][-1]) + 1 if not enough.all() else 1


def chance_to_show(cases: int, rate: float, floor: float, confidence: float) -> float:
    """Return the chance that so many independent cases show that a rate is above `floor`."""
    return float(_power(np.array([cases]), rate, floor, confidence)[0])


def cases_for_width(rate: float, half_width: float, level: float = 0.95) -> int:
    """Return how many independent cases give a two-sided Wilson interval of at most this half width at a rate."""
    z = norm.ppf((1 + level) / 2)

    def half(cases: float) -> float:
        return z * np.sqrt(rate * (1 - rate) / cases + z**2 / (4 * cases**2)) / (1 + z**2 / cases)

    low, high = 1, 2
    while half(high) > half_width:
        low, high = high, 2 * high
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if half(middle) <= half_width else (middle + 1, high)
    return high


def _normal_cases(rate: float, floor: float, confidence: float, power: float) -> float:
    z, own = norm.ppf(confidence), norm.ppf(power)
    return ((z * np.sqrt(floor * (1 - floor)) + own * np.sqrt(rate * (1 - rate))) / (rate - floor)) ** 2 + 1 / (
        rate - floor
    )


def _power(cases: np.ndarray, rate: float, floor: float, confidence: float) -> np.ndarray:
    """Return the chance of so many hits that as many or more have a chance of at most 1 - confidence at the floor."""
    return binom.sf(binom.isf(1 - confidence, cases, floor), cases, rate)
