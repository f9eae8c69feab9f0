"""t intervals of bootstrap standard errors, on a scale on which a metric is nearly normal.

Percentiles of resamples are too narrow where a metric is near its limit, or rests on cases that vary much from patient
to patient (Hesterberg 2015, The American Statistician 69:371): with 10 to 100 patients they held a tile AUROC, a Dice
or a FROC score in 88 to 92 % of simulated studies.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit, logit
from scipy.stats import t as student

from .intervals import LEVEL, Estimate

_FINITE = 0.9  # of the draws, on the scale; with fewer they tell no standard error there


class Scale(NamedTuple):
    """A rising function and its inverse."""

    to: Callable[[np.ndarray], np.ndarray]
    back: Callable[[np.ndarray], np.ndarray]


PLAIN = Scale(np.asarray, np.asarray)
LOGIT = Scale(logit, expit)  # of shares and areas, 0 to 1
LOG = Scale(np.log, np.exp)  # of losses, 0 and more
FISHER = Scale(np.arctanh, np.tanh)  # of correlations, -1 to 1
BELOW_ONE = Scale(lambda x: -np.log(1 - x), lambda y: 1 - np.exp(-y))  # of R², 1 and less
SURVIVAL = Scale(lambda x: -np.log(-np.log(x)), lambda y: np.exp(-np.exp(-y)))  # of event-free probabilities


def on_scale(found: Estimate, draws: np.ndarray, patients: float, scale: Scale) -> Estimate:
    """Return an estimate with its interval on a scale; as it is where it has none, or lies at the scale's end.

    Args:
        found: With the percentile interval of the draws.
        draws: (R,) of the metric in the resamples of patients.
        patients: In the smaller class, two or more.
        scale: On which it is nearly normal.
    """
    if np.isnan(found.low):
        return found
    value: Any = np.float64(found.value)
    with np.errstate(divide="ignore", invalid="ignore"):
        middle, drawn = float(scale.to(value)), scale.to(draws[~np.isnan(draws)])
    finite = drawn[np.isfinite(drawn)]
    if not np.isfinite(middle) or len(finite) < _FINITE * len(drawn):
        return found
    error = float(np.std(finite, ddof=1)) * (patients / (patients - 1)) ** 0.5
    half = float(student.ppf((1 + LEVEL) / 2, patients - 1)) * error
    low, high = scale.back(np.array([middle - half, middle + half]))
    return replace(found, low=float(low), high=float(high), method="bootstrap, t")
