"""Several sites as a sample of sites: what a further site can expect.

The true values of the sites differ with the variance tau squared, which is estimated by restricted maximum likelihood
(Viechtbauer 2005, J. Educ. Behav. Stat. 30:261). The interval of their mean is Hartung's and Knapp's (2001, Statist.
Med. 20:3875), widened to be no narrower than the one without their factor; the prediction interval for a new site is of
the t distribution with two degrees of freedom fewer than sites (Higgins et al. 2009, J. R. Stat. Soc. A 172:137).
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.stats import chi2
from scipy.stats import t as student

from .intervals import LEVEL


class Pooled(NamedTuple):
    """K sites taken together, on the scale of their values.

    Attributes:
        sites: K.
        mean, low, high: With its 95 % interval.
        error: Standard error that the interval is made of.
        tau2: Variance between the sites.
        i2: Share of the variance between sites that is not chance, 0 to 1 (by tau squared, as metafor gives it).
        q, p: Cochran's test of no difference between the sites.
        new_low, new_high: 95 % prediction interval for the true value of a new site; NaN with two sites.
    """

    sites: int
    mean: float
    low: float
    high: float
    error: float
    tau2: float
    i2: float
    q: float
    p: float
    new_low: float
    new_high: float


def pooled(values: np.ndarray, variances: np.ndarray, method: str = "reml", knapp_hartung: bool = True) -> Pooled:
    """Pool (K,) values with their variances, K two or more.

    Args:
        values: On a scale on which they are about normal.
        variances: Above 0.
        method: Of tau squared: `reml`, or `dl` (DerSimonian & Laird 1986).
        knapp_hartung: Whether the interval of the mean is theirs; else a normal one would be, which is too narrow for
            few sites: then the error is the plain one, and the interval still of the t distribution.
    """
    count, fixed = len(values), 1 / variances
    q = float((fixed * (values - np.average(values, weights=fixed)) ** 2).sum())
    typical = (count - 1) * fixed.sum() / (fixed.sum() ** 2 - (fixed**2).sum())
    tau2 = _reml(values, variances) if method == "reml" else max(0.0, (q / (count - 1) - 1) * typical)
    weights = 1 / (variances + tau2)
    mean = float(np.average(values, weights=weights))
    plain = 1 / weights.sum()
    factor = float((weights * (values - mean) ** 2).sum() / (count - 1)) if knapp_hartung else 1.0
    error = float(np.sqrt(plain * max(1.0, factor)))
    half = student.ppf((1 + LEVEL) / 2, count - 1) * error
    new = np.nan
    if count > 2:
        new = student.ppf((1 + LEVEL) / 2, count - 2) * np.sqrt(tau2 + error**2)
    return Pooled(
        count, mean, mean - half, mean + half, error, tau2, float(tau2 / (tau2 + typical)), q,
        float(chi2.sf(q, count - 1)), mean - new, mean + new,
    )  # fmt: skip


def without_each(values: np.ndarray, variances: np.ndarray) -> list[Pooled]:
    """Return the pooled values without each of the K sites, K three or more."""
    others = ~np.eye(len(values), dtype=bool)
    return [pooled(values[rows], variances[rows]) for rows in others]


def _reml(values: np.ndarray, variances: np.ndarray) -> float:
    """Return tau squared where the derivative of the restricted likelihood is 0; 0 where it falls from there on."""

    def slope(tau2: float) -> float:
        weights = 1 / (variances + tau2)
        mean = np.average(values, weights=weights)
        return float((weights**2 * (values - mean) ** 2).sum() - weights.sum() + (weights**2).sum() / weights.sum())

    if slope(0.0) <= 0:
        return 0.0
    high = float(np.var(values, ddof=1) + variances.max())
    while slope(high) > 0:
        high *= 2
    return float(brentq(slope, 0.0, high, xtol=1e-14))
