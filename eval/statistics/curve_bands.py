"""Bands around ROC and precision-recall curves: what resamples of patients make of them, point by point."""

from typing import NamedTuple

import numpy as np

from .intervals import FEW, LEVEL
from .metrics import ratio
from .resampling import PatientBootstrap

RESAMPLES = 500  # at most: a band is drawn, not read
POINTS = np.linspace(0, 1, 51)  # 1 - specificity, or recall
_EACH = 100  # thresholds taken from the scores of each class


class Band(NamedTuple):
    """Lower and upper ends over `POINTS`, (51,) each."""

    low: np.ndarray
    high: np.ndarray


def curve_bands(truth: np.ndarray, scores: np.ndarray, bootstrap: PatientBootstrap) -> tuple[Band, Band] | None:
    """Compute bands around both curves; None where a class has cases of fewer than 10 patients.

    They are pointwise 95 % bands of sensitivity over 1 - specificity and of precision over recall (Fawcett 2006,
    Pattern Recognit. Lett. 27:861: vertical averaging).

    Args:
        truth: (N,) of one label, NaN where it is unknown.
        scores: (N,) of the same.
        bootstrap: The N cases' patients.
    """
    if bootstrap.smaller_class(truth[:, None])[0] < FEW:
        return None
    known = ~np.isnan(truth)
    ends = [np.quantile(scores[truth == value], np.linspace(0, 1, _EACH), method="nearest") for value in (0, 1)]
    thresholds = np.unique(np.concatenate(ends))
    levels = len(thresholds) + 1
    reached = np.searchsorted(thresholds, scores, side="right")
    groups = np.where(known, np.nan_to_num(truth).astype(int) * levels + reached, -1)
    tally = bootstrap.tallies(groups[:, None], 2 * levels).reshape(-1, 2, levels)
    predicted = np.cumsum(tally[..., ::-1], axis=-1).astype(float)  # at the highest threshold first; all cases last
    false, true = predicted[:, 0], predicted[:, 1]
    shares = ratio(false, false[:, -1:]), ratio(true, true[:, -1:]), ratio(true, true + false)
    drawn = np.isfinite(shares[0]).all(axis=1) & np.isfinite(shares[1]).all(axis=1)
    false_share, recall, precision = (share[drawn] for share in shares)
    nothing = np.zeros((len(recall), 1))
    roc = _on_grid(np.hstack([nothing, false_share]), np.hstack([nothing, recall]))
    return _band(roc), _band(_on_grid(recall, precision))


def _on_grid(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return R curves on the grid, (R, 51); points before anything is predicted positive have no value."""
    defined = ~np.isnan(y)
    return np.array([np.interp(POINTS, across[d], up[d]) for across, up, d in zip(x, y, defined, strict=True)])


def _band(curves: np.ndarray) -> Band:
    low, high = np.quantile(curves, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return Band(low, high)
