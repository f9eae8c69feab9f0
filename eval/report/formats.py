"""Numbers as sentences and tables of the report show them."""

import numpy as np

from ...datasets.manifest.tables import many as many
from ..statistics.intervals import NO_INTERVAL, Estimate


def number(value: float, digits: int = 3) -> str:
    """Return `0.874`, with a real minus sign; an en dash for NaN."""
    if value is None or np.isnan(value):
        return "–"
    return f"{value:.{digits}f}".replace("-", "−")


def signed(value: float, digits: int = 3) -> str:
    """Return `+0.031` or `−0.004`."""
    return "–" if np.isnan(value) else f"{value:+.{digits}f}".replace("-", "−")


def p_value(p: float) -> str:
    """Return `0.032`, `<0.001`; an en dash for NaN."""
    return "<0.001" if p < 0.001 else number(p)


def compared_p(p: float) -> str:
    """Return a p-value in a sentence: `= 0.032`, `< 0.001`."""
    return "< 0.001" if p < 0.001 else f"= {number(p)}"


def interval(estimate: Estimate, digits: int = 3, sign: bool = False) -> str:
    """Return `0.84–0.90` or `−0.03 to 0.01`, empty if there is none; with signs `+0.01 to +0.05`."""
    if np.isnan(estimate.low):
        return ""
    if sign:
        return f"{signed(estimate.low, digits)} to {signed(estimate.high, digits)}"
    between = " to " if estimate.low < 0 else "–"
    return f"{number(estimate.low, digits)}{between}{number(estimate.high, digits)}"


def noted(estimate: Estimate) -> bool:
    """Return whether a dagger stands behind it: it has a reason, and not only that no interval is computed."""
    return estimate.marked and not estimate.reason.startswith(NO_INTERVAL)
