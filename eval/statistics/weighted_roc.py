"""Areas under ROC curves of weighted cases: partial areas, areas in a population, and both in every resample.

The partial area up to a false-positive rate is standardised so that 0.5 is no discrimination and 1 perfect (McClish
1989, Med. Decis. Making 9:190), as scikit-learn's `roc_auc_score(max_fpr=...)`.
"""

import numpy as np

from .intervals import Estimate, percentile
from .metrics import ratio, reasons
from .resampling import PatientBootstrap

MOST = 30_000_000  # cases times resamples beyond which no interval is computed
_BLOCK = 4_000_000  # numbers held at once
TOO_MANY = "no interval is computed: too many cases for one"


def roc_areas(truth: np.ndarray, score: np.ndarray, weights: np.ndarray, max_rate: float = 1.0) -> np.ndarray:
    """Compute (R,) areas under the ROC curves of one label.

    Args:
        truth: (N,) of 0 and 1.
        score: (N,).
        weights: (N, R) of the cases, 0 or more.
        max_rate: False-positive rate up to which the area counts; below 1 it is standardised.

    Returns:
        NaN where a class has no weight.
    """
    order = np.argsort(-score, kind="stable")
    falling = score[order]
    starts = np.flatnonzero(np.concatenate([[True], falling[1:] != falling[:-1]])) if len(order) else np.empty(0, int)
    rates = []
    for kind in (1, 0):
        own = weights[order] * (truth[order] == kind)[:, None]
        steps = np.cumsum(np.add.reduceat(own, starts, axis=0), axis=0) if len(order) else own
        steps = np.concatenate([np.zeros((1, weights.shape[1])), steps])
        rates.append(ratio(steps, steps[-1:]))
    true, false = rates
    if max_rate >= 1:
        return (np.diff(false, axis=0) * (true[1:] + true[:-1]) / 2).sum(axis=0)
    # Each step of the curve counts up to the rate, at which it is cut on the line between its ends.
    width = np.diff(false, axis=0)
    kept = np.clip(max_rate - false[:-1], 0, width)
    end = true[:-1] + ratio(kept, np.where(width > 0, width, 1)) * np.diff(true, axis=0)
    area = (kept * (true[:-1] + end) / 2).sum(axis=0)
    least, most = max_rate**2 / 2, max_rate
    return (1 + (area - least) / (most - least)) / 2


def roc_area(
    truth: np.ndarray, score: np.ndarray, bootstrap: PatientBootstrap, max_rate: float = 1.0,
    weights: np.ndarray | None = None,
) -> Estimate:  # fmt: skip
    """Compute one area with its interval by patient.

    Args:
        truth: (N,) of 0, 1, NaN (left out).
        score: (N,).
        bootstrap: The N cases' patients.
        max_rate: See `roc_areas`.
        weights: (N,) of the cases; None for equal ones.
    """
    known = ~np.isnan(truth)
    if why := reasons(truth[:, None])[0]:
        return Estimate(float("nan"), reason=why)
    weights = np.ones(len(truth)) if weights is None else weights
    own = truth[known], score[known]
    value = float(roc_areas(*own, weights[known][:, None], max_rate)[0])
    if np.isnan(value):
        return Estimate(value, reason="a class has no weight")
    if len(truth) * bootstrap.resamples > MOST:
        return Estimate(value, reason=TOO_MANY)
    step, draws = max(1, _BLOCK // max(1, len(truth))), []
    for block in bootstrap.counts():
        for start in range(0, block.shape[1], step):
            counts = block[:, start : start + step][bootstrap.index[known]]
            draws.append(roc_areas(*own, counts * weights[known][:, None], max_rate))
    few = int(bootstrap.smaller_class(truth[:, None])[0])
    return percentile(value, np.concatenate(draws), few=few)
