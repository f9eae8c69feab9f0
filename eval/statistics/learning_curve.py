"""A learning curve: a metric over the number of labelled cases, by one of two forms, with a band.

The forms are the logarithm a + b ln n, and the saturating power law y_inf - c n^-d. The one that foretells the largest
size better, when fitted on all smaller ones, is taken; how well they fit what they have seen says little of what more
labels are worth. Bands resample the patients whom all runs are scored on, together, and the runs of every size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from .intervals import LEVEL, Estimate, percentile

LOG, POWER = "a + b ln n", "y_inf - c n^-d"
LEAST = {LOG: 2, POWER: 3}  # sizes that a form needs
RATES = np.geomspace(0.02, 4, 60)  # d between which the least error is looked for; below, the power law is a logarithm
_GOLDEN = (np.sqrt(5) - 1) / 2
_NARROWED = 50  # times: to 1e-10 of the step between two rates
METHOD = "resampled runs and patients"


@dataclass(frozen=True)
class Measured:
    """What runs of K sizes reached.

    Attributes:
        sizes: (K,) labelled cases, rising.
        values: K arrays (S_k,), the metric of every run of that size, none of them NaN.
        drawn: K arrays (R, S_k), the same in R resamples of the patients that all runs are scored on.
        few: Patients in the smaller class, for intervals (`intervals.percentile`); None where that means nothing.
    """

    sizes: np.ndarray
    values: Sequence[np.ndarray]
    drawn: Sequence[np.ndarray]
    few: float | None = None

    def means(self) -> np.ndarray:
        """Return the (K,) means of the runs."""
        return np.array([own.mean() for own in self.values])

    def counts(self) -> np.ndarray:
        """Return the (K,) numbers of runs."""
        return np.array([len(own) for own in self.values], dtype=float)

    def resampled(self, seed: int) -> np.ndarray:
        """Return the means of the runs in resamples of patients and runs, (R, K).

        Runs are drawn with replacement within their size, those of two models with the same numbers of runs in the
        same order. What S runs drawn from S lack of the variance of a mean, S / (S - 1), and of Student's t of all
        sizes together, is made up for; a size with one run varies by its patients alone.
        """
        freedom = (self.counts() - 1).sum()
        tails = student.ppf((1 + LEVEL) / 2, freedom) / norm.ppf((1 + LEVEL) / 2) if freedom else 1.0
        means = np.empty((len(self.drawn[0]), len(self.drawn)))
        for k, drawn in enumerate(self.drawn):
            runs = drawn.shape[1]
            picked = np.random.default_rng((seed, k)).integers(runs, size=drawn.shape)
            centre = drawn.mean(axis=1)
            wider = tails * np.sqrt(runs / (runs - 1)) if runs > 1 else 0.0
            means[:, k] = centre + wider * (np.take_along_axis(drawn, picked, axis=1).mean(axis=1) - centre)
        return means


@dataclass(frozen=True)
class Fits:
    """Both forms fitted to R rows of means.

    Attributes:
        log: (R, 2) a, b.
        power: (R, 3) y_inf, c, d; NaN where there are too few sizes.
        errors: (R, 2) of log and power: how far each is off at the largest size, when fitted on all smaller ones; NaN
            where there are too few.
        ceiling: What the metric cannot exceed.
    """

    log: np.ndarray
    power: np.ndarray
    errors: np.ndarray
    ceiling: float

    def saturating(self) -> np.ndarray:
        """Return for which rows the power law is taken, (R,)."""
        return self.errors[:, 1] < self.errors[:, 0]

    def at(self, sizes: np.ndarray) -> np.ndarray:
        """Return the metric by the form taken, (R, N), at (N,) sizes; no more than the ceiling, no less than 0."""
        straight = self.log[:, :1] + self.log[:, 1:] * np.log(sizes)
        bent = self.power[:, :1] - self.power[:, 1:2] * np.exp(-self.power[:, 2:] * np.log(sizes))
        return np.clip(np.where(self.saturating()[:, None], bent, straight), 0, self.ceiling)


@dataclass(frozen=True)
class LearningCurve:
    """A fitted curve.

    Attributes:
        measured: What it was fitted to.
        fit: One row: to the means of the runs.
        draws: (R) the same to the means in every resample, the form chosen anew in each.
        means: (R, K) of the resamples.
    """

    measured: Measured
    fit: Fits
    draws: Fits
    means: np.ndarray

    @property
    def form(self) -> str:
        """Return the form that is taken."""
        return POWER if self.fit.saturating()[0] else LOG

    def coefficients(self) -> dict[str, float]:
        """Return the coefficients of the form taken, by name."""
        names, values = (("y_inf", "c", "d"), self.fit.power) if self.form == POWER else (("a", "b"), self.fit.log)
        return dict(zip(names, map(float, values[0])))

    def points(self) -> list[Estimate]:
        """Return the mean of the runs of each size, with the interval over runs and patients."""
        drawn = np.clip(self.means, 0, self.fit.ceiling)  # made wider, they may lie beyond
        return [self._estimate(value, draws) for value, draws in zip(self.measured.means(), drawn.T)]

    def at(self, sizes: np.ndarray) -> list[Estimate]:
        """Return the curve at sizes, with its band."""
        drawn = self.draws.at(sizes)
        return [self._estimate(value, drawn[:, n]) for n, value in enumerate(self.fit.at(sizes)[0])]

    def worth(self, more: float) -> Estimate:
        """Return what so many further labelled cases add to the metric at the largest size."""
        ends = self.measured.sizes[-1] + np.array([0.0, more])
        gained = np.diff(self.draws.at(ends), axis=1)[:, 0]
        return self._estimate(float(np.diff(self.fit.at(ends)[0])[0]), gained)

    def _estimate(self, value: float, draws: np.ndarray) -> Estimate:
        found = percentile(float(value), draws, few=self.measured.few)
        if np.isnan(found.low):
            return found
        alone = "" if self.measured.counts().max() > 1 else "of one run per size: how runs differ is not in it"
        return Estimate(found.value, found.low, found.high, alone, METHOD, found.undefined)


def fit_learning_curve(measured: Measured, seed: int = 0, ceiling: float = 1.0) -> LearningCurve | None:
    """Fit a curve; None with fewer than two sizes.

    Args:
        measured: What runs reached.
        seed: Of the resamples of runs.
        ceiling: What the metric cannot exceed.
    """
    if len(measured.sizes) < LEAST[LOG]:
        return None
    means = measured.resampled(seed)
    whole = means[~np.isnan(means).any(axis=1)]
    sizes, counts = np.asarray(measured.sizes, float), measured.counts()
    fit = _fits(sizes, measured.means()[None], counts, ceiling)
    return LearningCurve(measured, fit, _fits(sizes, whole, counts, ceiling), means)


def fit_log(sizes: np.ndarray, means: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Fit a + b ln n by least squares to (R, K) means of so many runs; return (R, 2)."""
    intercept, slope, _ = _line(np.log(sizes)[None], means, counts)
    return np.column_stack([intercept, slope])


def fit_power(sizes: np.ndarray, means: np.ndarray, counts: np.ndarray, ceiling: float = 1.0) -> np.ndarray:
    """Fit y_inf - c n^-d, y_inf no more than the ceiling, by least squares to (R, K) means of so many runs: (R, 3).

    For a given d the other two are those of a line, so that d alone is searched for: over `RATES`, then by golden
    section between the neighbours of the best.
    """
    scaled = np.log(sizes / sizes[-1])

    def bounded(rates: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return _line(np.exp(-rates[:, None] * scaled), means, counts, ceiling)

    def rest(rates: np.ndarray) -> np.ndarray:
        return bounded(rates)[2]

    errors = np.column_stack([rest(np.full(len(means), rate)) for rate in RATES])
    best = errors.argmin(axis=1)
    low, high = (np.log(RATES[np.clip(best + step, 0, len(RATES) - 1)]) for step in (-1, 1))
    for _ in range(_NARROWED):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        lower = rest(np.exp(left)) <= rest(np.exp(right))
        low, high = np.where(lower, low, left), np.where(lower, right, high)
    rate = np.exp((low + high) / 2)
    limit, slope, _ = bounded(rate)
    return np.column_stack([limit, -slope * sizes[-1] ** rate, rate])


def _fits(sizes: np.ndarray, means: np.ndarray, counts: np.ndarray, ceiling: float) -> Fits:
    power = np.full((len(means), 3), np.nan)
    if len(sizes) >= LEAST[POWER]:
        power = fit_power(sizes, means, counts, ceiling)
    return Fits(fit_log(sizes, means, counts), power, _left_out_errors(sizes, means, counts, ceiling), ceiling)


def _left_out_errors(sizes: np.ndarray, means: np.ndarray, counts: np.ndarray, ceiling: float) -> np.ndarray:
    """Return by how much both forms, fitted on all sizes but the largest, miss its mean: (R, 2)."""
    errors = np.full((len(means), 2), np.nan)
    fewer, rows = (sizes[:-1], means[:, :-1], counts[:-1]), np.zeros((len(means), 2))
    nothing = np.full((len(means), 3), np.nan)
    if len(sizes) > LEAST[LOG]:
        log = Fits(fit_log(*fewer), nothing, rows, ceiling)
        errors[:, 0] = np.abs(log.at(sizes[-1:])[:, 0] - means[:, -1])
    if len(sizes) > LEAST[POWER]:
        power = Fits(rows, fit_power(*fewer, ceiling), rows - [0, 1], ceiling)
        errors[:, 1] = np.abs(power.at(sizes[-1:])[:, 0] - means[:, -1])
    return errors


def _line(
    x: np.ndarray, y: np.ndarray, counts: np.ndarray, highest: float = np.inf
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return intercept, slope and weighted squared error, (R,) each, of (R, K) y over (R or 1, K) x.

    Args:
        x: Of the points.
        y: Of the points.
        counts: (K,) weights.
        highest: What the intercept must not exceed; the slope is then the best with it.
    """
    weights = counts / counts.sum()
    x_mean, y_mean = (x @ weights)[:, None], (y @ weights)[:, None]
    across = ((x - x_mean) ** 2) @ weights
    slope = ((x - x_mean) * (y - y_mean)) @ weights / across
    intercept = y_mean[:, 0] - slope * x_mean[:, 0]
    if np.isfinite(highest):
        held = (x * (y - highest)) @ weights / (x**2 @ weights)
        slope, intercept = np.where(intercept > highest, held, slope), np.minimum(intercept, highest)
    return intercept, slope, ((y - intercept[:, None] - slope[:, None] * x) ** 2) @ weights
