"""Likelihood ratios: by how much a predicted label changes the odds of a finding, with intervals by patient.

LR+ = sensitivity / (1 - specificity), LR- = (1 - sensitivity) / specificity. Intervals are made on the logarithm
(Simel et al. 1991, J. Clin. Epidemiol. 44:763) with the variance summed over patients, which of one case per patient is
Simel's own.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import norm

from .intervals import LEVEL, NO_INTERVAL, Estimate
from .metrics import Confusion
from .operating_points import OperatingPoint

_UNDEFINED = {
    "lr_positive": "no case of a class, or no false alarm: the ratio has no upper end",
    "lr_negative": "no case of a class, or no negative case predicted negative",
}


def likelihood_ratios(
    cells: Confusion, points: Sequence[OperatingPoint], patient: np.ndarray
) -> list[dict[str, Estimate]]:
    """Compute `lr_positive` and `lr_negative`, by label.

    Args:
        cells: Which case falls into which cell, (N, L) boolean each (`metrics.confusion_cells`).
        points: L operating points.
        patient: (N,) integers from 0.
    """
    return [
        {
            "lr_positive": _ratio("lr_positive", tp, tp | fn, fp, fp | tn, point, patient),
            "lr_negative": _ratio("lr_negative", fn, tp | fn, tn, fp | tn, point, patient),
        }
        for point, tp, fp, fn, tn in zip(points, *(cell.T for cell in cells))
    ]


def _ratio(
    name: str, hits: np.ndarray, positive: np.ndarray, alarms: np.ndarray, negative: np.ndarray,
    point: OperatingPoint, patient: np.ndarray,
) -> Estimate:  # fmt: skip
    """Compute the share of hits among the positive cases over that of alarms among the negative ones."""
    found, cases, false, others = (int(part.sum()) for part in (hits, positive, alarms, negative))
    if not cases or not others or not false:
        return Estimate(float("nan"), reason=point.reason or _UNDEFINED[name])
    value = (found / cases) / (false / others)
    if not found:
        return Estimate(value, reason=f"{NO_INTERVAL}: the ratio is 0")
    influence = (hits - positive * (found / cases)) / found - (alarms - negative * (false / others)) / false
    by_patient = np.bincount(patient, weights=influence)
    half = norm.ppf((1 + LEVEL) / 2) * np.sqrt((by_patient**2).sum())
    if half == 0:
        return Estimate(value, reason=f"{NO_INTERVAL}: every case has the same predicted label")
    return Estimate(value, float(value * np.exp(-half)), float(value * np.exp(half)), method="logarithm, by patient")
