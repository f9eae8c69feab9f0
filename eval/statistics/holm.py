"""Holm's correction of p-values for the number of tests (1979, Scandinavian Journal of Statistics 6:65)."""

import numpy as np


def holm(p: np.ndarray) -> np.ndarray:
    """Adjust p-values: rejecting those below 0.05 keeps the chance of any false rejection below 0.05.

    Args:
        p: (K,) raw p-values; NaN is no test and does not count.

    Returns:
        (K,), NaN where `p` is.
    """
    p = np.asarray(p, dtype=np.float64)
    adjusted = np.full(len(p), np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    rising = tested[np.argsort(p[tested], kind="stable")]
    stepped = p[rising] * np.arange(len(rising), 0, -1)
    adjusted[rising] = np.minimum(1, np.maximum.accumulate(stepped))
    return adjusted
