"""Statistics of a linear probe on tiles: two encoders' features, slide by slide, with paired intervals."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import t as student

from ..statistics.intervals import Estimate

LEAST_PATIENTS = 10
LEVEL = 0.95


def probe_estimates(
    patients: Sequence[str], first: np.ndarray, second: np.ndarray
) -> tuple[Estimate, Estimate, Estimate]:
    """Compute the mean tile AUROC of two probes and of the first minus the second, with Student's intervals.

    Args:
        patients: (N,) of the slides that have both kinds of tiles.
        first: (N,) tile AUROC of each slide.
        second: (N,) likewise, on the same tiles.

    Returns:
        Of the first, the second, and the difference. Slides of one patient count as their mean.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    return _mean(patients, first), _mean(patients, second), _mean(patients, first - second)


def _mean(patients: Sequence[str], values: np.ndarray) -> Estimate:
    _, place = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    own = np.bincount(place, values) / np.bincount(place)
    if not len(own):
        return Estimate(np.nan, reason="no slide has tiles of both kinds")
    if len(own) < LEAST_PATIENTS:
        return Estimate(own.mean(), reason=f"no interval: slides of {len(own)} patients, fewer than {LEAST_PATIENTS}")
    half = student.ppf((1 + LEVEL) / 2, len(own) - 1) * own.std(ddof=1) / np.sqrt(len(own))
    return Estimate(float(own.mean()), float(own.mean() - half), float(own.mean() + half), method="t")
