"""A scaling law: how a metric grows with the logarithms of data, parameters and pixels, by least squares.

The form is that of Orhan 2023 (arXiv 2308.03712): metric = a + sum of b_k ln(factor_k). Intervals are Student's, exact
for independent errors of equal variance; runs that share data or a start are less independent than that.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import t

from ...core.errors import DataError
from .intervals import LEVEL, NO_INTERVAL, Estimate

METHOD = "Student's t of least squares"


@dataclass(frozen=True)
class ScalingLaw:
    """A fitted law.

    Attributes:
        factors: Names of the F factors.
        coefficients: (1 + F,) intercept a, then b of every factor.
        covariance: (1 + F, 1 + F) of the coefficients.
        freedom: Points less coefficients.
        r2: Share of the variance that the law explains.
    """

    factors: tuple[str, ...]
    coefficients: np.ndarray
    covariance: np.ndarray
    freedom: int
    r2: float

    def intercept(self) -> Estimate:
        """Return a with its 95 % interval."""
        return self._estimate(np.eye(len(self.coefficients))[0])

    def slope(self, factor: str) -> Estimate:
        """Return b of a factor, what the metric gains when it grows e-fold, with its 95 % interval."""
        return self._estimate(np.eye(len(self.coefficients))[1 + self.factors.index(factor)])

    def explained(self) -> Estimate:
        """Return R squared."""
        return Estimate(self.r2, reason=f"{NO_INTERVAL}: of the fit itself")

    def predicted(self, at: Mapping[str, float]) -> Estimate:
        """Return the mean of the metric at these factors, with the 95 % interval of the mean."""
        return self._estimate(np.array([1.0, *(np.log(at[name]) for name in self.factors)]))

    def _estimate(self, weights: np.ndarray) -> Estimate:
        value = float(weights @ self.coefficients)
        half = float(t.ppf((1 + LEVEL) / 2, self.freedom) * np.sqrt(weights @ self.covariance @ weights))
        return Estimate(value, value - half, value + half, method=METHOD)


def fit_scaling_law(metric: np.ndarray, factors: Mapping[str, np.ndarray]) -> ScalingLaw:
    """Fit a law.

    Args:
        metric: (N,) measured values, finite.
        factors: (N,) of each factor by its name, above 0.

    Raises:
        DataError: Too few points, a factor that is not above 0, or factors that cannot be told apart.
    """
    count = 1 + len(factors)
    if len(metric) <= count:
        raise DataError(f"a scaling law of {len(factors)} factors needs over {count} points, not {len(metric)}.")
    for name, values in factors.items():
        if not (np.isfinite(values) & (np.asarray(values) > 0)).all():
            raise DataError(f"{name}: a scaling law takes its logarithm, so every value must be above 0.")
    if not np.isfinite(metric).all():
        raise DataError("a scaling law needs a measured value at every point.")
    x = np.column_stack([np.ones(len(metric)), *(np.log(values) for values in factors.values())])
    coefficients, _, rank, _ = np.linalg.lstsq(x, metric, rcond=None)
    if rank < count:
        raise DataError(f"factors {', '.join(factors)}: one is constant or follows from the others; leave it out.")
    errors = metric - x @ coefficients
    freedom, rest = len(metric) - count, float(errors @ errors)
    total = float(np.square(metric - np.mean(metric)).sum())
    r2 = 1 - rest / total if total else float("nan")
    return ScalingLaw(tuple(factors), coefficients, rest / freedom * np.linalg.inv(x.T @ x), freedom, r2)
