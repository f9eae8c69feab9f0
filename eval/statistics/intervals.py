"""95 % intervals of metrics: percentile and BCa intervals of bootstrap draws, and Wilson's interval for proportions.

The draws are those of `resampling.PatientBootstrap`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import norm

from .metrics import ratio
from .resampling import Drawn, PatientBootstrap
from .reservations import ENOUGH, FEW, mean_size, rough, too_few, widened
from .small_samples import auroc_interval, effective_cases, effective_patients, exact

LEVEL = 0.95
NO_INTERVAL = "no interval is computed"  # how the reason of a metric begins that is shown without one on purpose


@dataclass(frozen=True)
class Estimate:
    """One metric with its interval.

    Attributes:
        value: The metric; NaN if undefined.
        low, high: Ends of the 95 % interval; NaN if there is none.
        reason: Why the metric or its interval is undefined, or what to bear in mind; empty if nothing is to
            be said.
        method: How the interval was made (`bootstrap`, `wilson`, ...).
        undefined: Resamples in which the metric was undefined (a macro mean: in which a label was); they are
            left out of the interval (a macro mean keeps them; see `macro_percentile`).
    """

    value: float
    low: float = float("nan")
    high: float = float("nan")
    reason: str = ""
    method: str = ""
    undefined: int = 0

    @property
    def marked(self) -> bool:
        """Return whether a defined metric has something to bear in mind: the page puts a dagger behind it."""
        return bool(self.reason) and not np.isnan(self.value)


def percentile(
    value: float, draws: np.ndarray, reason: str = "", few: float | None = None, acceleration: float | None = None
) -> Estimate:
    """Give a metric the 2.5th and 97.5th percentile of its (R,) draws; undefined ones are left out.

    Args:
        value: The metric on the cases themselves.
        draws: The metric in each resample.
        reason: Why `value` is NaN, where it is.
        few: Patients in the smaller class. With fewer than `FEW` there is no interval; with some more it is widened
            (`reservations`).
        acceleration: Of `PatientJackknife.acceleration`. With it the interval is BCa: other percentiles, corrected for
            bias and skewness.
    """
    if np.isnan(value):
        return Estimate(value, reason=reason or "undefined")
    if few is not None and few < FEW:
        return Estimate(value, reason=too_few(int(few)))
    defined = draws[~np.isnan(draws)]
    undefined = len(draws) - len(defined)
    if len(defined) < 2:
        return Estimate(value, reason="no interval: undefined in every resample", undefined=undefined)
    levels = widened(np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2]), few)
    if acceleration is not None:
        levels = _bca_levels(value, defined, acceleration, levels)
    if np.isnan(levels).any():
        return Estimate(value, reason="no interval: every resample is on one side of the metric", undefined=undefined)
    low, high = np.quantile(defined, levels)
    if low == high:
        return Estimate(value, reason="no interval: nothing varies between the resamples", undefined=undefined)
    method = "bootstrap" if acceleration is None else "bootstrap, bca"
    return Estimate(value, float(low), float(high), method=method, undefined=undefined)


def _bca_levels(value: float, draws: np.ndarray, acceleration: float, levels: np.ndarray) -> np.ndarray:
    """Return the levels at which BCa reads the draws (Efron 1987, equation 2.3); NaN if all lie on one side."""
    whisker = 1e-12  # equal metrics computed in two ways must tie
    if np.ptp(draws) <= whisker:
        return levels
    below = ((draws < value - whisker).mean() + (draws <= value + whisker).mean()) / 2
    if below in (0, 1):
        return np.full(2, np.nan)
    bias = norm.ppf(below)
    moved = bias + norm.ppf(levels)
    return norm.cdf(bias + moved / (1 - acceleration * moved))


def estimates(
    values: np.ndarray,
    drawn: Drawn,
    reasons: Sequence[str] | np.ndarray,
    few: Sequence[int | None] | np.ndarray | None = None,
) -> list[Estimate]:
    """Give K metrics their intervals by `percentile`.

    Args:
        values: (K,) on the cases themselves.
        drawn: The same in the resamples.
        reasons: K texts: why a value is NaN, where it is.
        few: K numbers of patients in the smaller class; None where that means nothing.
    """
    few = [None] * len(values) if few is None else few
    accelerations = drawn.acceleration()
    return [
        percentile(
            float(value),
            drawn.resampled[:, k],
            reasons[k],
            few[k],
            None if accelerations is None else float(accelerations[k]),
        )
        for k, value in enumerate(values)
    ]


def auroc_estimates(
    truth: np.ndarray,
    values: np.ndarray,
    drawn: Drawn,
    reasons: Sequence[str] | np.ndarray,
    bootstrap: PatientBootstrap,
) -> list[Estimate]:
    """Give L AUROCs their intervals: Newcombe's score interval where a class has few patients, else the bootstrap's.

    An AUROC of exactly 1 or 0, which no resample varies, gets an exact one (`small_samples.auroc_interval`).

    Args:
        truth: (N, L).
        values: (L,) on the cases themselves.
        drawn: The same in the resamples.
        reasons: L texts: why a value is NaN, where it is.
        bootstrap: The N cases' patients.
    """
    smaller = bootstrap.smaller_class(truth)
    found = estimates(values, drawn, reasons, smaller)
    for label, value in enumerate(values):
        if np.isnan(value) or (smaller[label] >= ENOUGH and 0 < value < 1):
            continue
        present, absent = (effective_patients(_numbered(bootstrap.index[truth[:, label] == kind])) for kind in (1, 0))
        known = bootstrap.having(~np.isnan(truth[:, label]))
        if known < 2:  # no two patients to compare: nothing is known of others
            found[label] = Estimate(float(value), reason=too_few(1))
            continue
        # Patients who have both count once: only pairs of different patients are independent.
        low, high = auroc_interval(float(value), present, absent, known // 2)
        method = "exact" if value in (0, 1) else "score (Newcombe)"
        note, undefined = rough(int(smaller[label])), found[label].undefined
        found[label] = Estimate(float(value), low, high, note, method, undefined)
    return found


def _numbered(index: np.ndarray) -> np.ndarray:
    return np.unique(index, return_inverse=True)[1]


def macro_estimate(
    values: np.ndarray, drawn: Drawn, reason: str = "no label is defined", few: np.ndarray | None = None
) -> Estimate:
    """Compute `macro_percentile` of (L,) metrics and their draws."""
    mean = drawn.map(lambda draws: macro_draws(values, draws)[:, None])
    acceleration = mean.acceleration()
    own = None if acceleration is None else float(acceleration[0])
    return macro_percentile(values, drawn.resampled, reason, own, few)


def believed_macro(values: np.ndarray, drawn: Drawn, few: np.ndarray, kept: np.ndarray, reason: str) -> Estimate:
    """Compute the mean over the labels that are kept; where none is, that over all defined ones, without interval.

    Args:
        values: (L,) metrics.
        drawn: The same in the resamples.
        few: (L,) patients in the smaller class.
        kept: (L,) boolean: not left out by `reservations`.
        reason: What to say where no label is defined.
    """
    kept = kept & ~np.isnan(values)
    if kept.any():
        return macro_estimate(values[kept], drawn.map(lambda draws: draws[:, kept]), reason, few[kept])
    defined = values[~np.isnan(values)]
    if not len(defined):
        return Estimate(float("nan"), reason=reason)
    why = too_few(int(few[0])) if len(values) == 1 else ""
    return Estimate(
        float(defined.mean()),
        reason=why or f"no interval: every finding has fewer than {FEW} patients with it or without it",
    )


def macro_size(draws: np.ndarray, few: np.ndarray) -> float:
    """Return of how many patients the mean of L metrics is worth, from their (R, L) draws; see `mean_size`."""
    return mean_size(np.nanvar(draws, axis=0), few)


def macro_percentile(
    values: np.ndarray,
    draws: np.ndarray,
    reason: str = "no label is defined",
    acceleration: float | None = None,
    few: np.ndarray | None = None,
) -> Estimate:
    """Compute the mean over the labels that are defined on the cases themselves, with its interval.

    Args:
        values: (L,) metrics, NaN where undefined.
        draws: (R, L) the same in each resample.
        reason: What to say where no label is defined.
        acceleration: See `percentile`.
        few: (L,) patients in the smaller class, `FEW` or more.

    Returns:
        The estimate; its `undefined` counts the resamples in which one of these labels was undefined.
    """
    defined = ~np.isnan(values)
    if not defined.any():
        return Estimate(float("nan"), reason=reason)
    missing = np.isnan(draws[:, defined]).any(axis=1)
    size = None if few is None else macro_size(draws[:, defined], few[defined])
    mean = percentile(float(values[defined].mean()), macro_draws(values, draws), "", size, acceleration)
    return replace(mean, undefined=int(missing.sum()))


def macro_draws(values: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Compute the macro mean in each resample (R,), from (L,) metrics and their (R, L) draws.

    A resample may miss all positive cases of a rare label. To leave that label out of the resample's mean
    would mix means over different labels, so deviations are averaged: the macro mean plus the mean deviation
    of the labels that are defined in that resample from their own metrics.
    """
    deviations = draws - values
    mean_deviation = ratio(np.nansum(deviations, axis=1), (~np.isnan(deviations)).sum(axis=1))
    defined = values[~np.isnan(values)]
    return mean_deviation + (defined.mean() if len(defined) else np.nan)


def wilson(hits: float, cases: float) -> tuple[float, float]:
    """Compute Wilson's 95 % score interval (1927) for `hits` of `cases` independent cases; NaN without cases."""
    if cases == 0:
        return float("nan"), float("nan")
    z = norm.ppf((1 + LEVEL) / 2)
    share = hits / cases
    middle = (share + z**2 / (2 * cases)) / (1 + z**2 / cases)
    half = z * np.sqrt(share * (1 - share) / cases + z**2 / (4 * cases**2)) / (1 + z**2 / cases)
    # Rounding must not put the share itself outside.
    return max(0.0, min(share, float(middle - half))), min(1.0, max(share, float(middle + half)))


def proportions(hits: np.ndarray, bootstrap: PatientBootstrap, reasons: Sequence[str]) -> list[Estimate]:
    """Compute K proportions with intervals.

    Wilson's interval, with fewer than 40 patients the exact one. Where patients have several cases it is that of the
    effective sample size (`small_samples.effective_cases`); where all or none are hits, so that nothing varies between
    patients, of as many cases as there are patients.

    Args:
        hits: (N, K) of 1 (a hit), 0, and NaN (this case does not count here).
        bootstrap: The N cases' patients.
        reasons: K texts: why the proportion is undefined if no case counts.
    """
    counted = ~np.isnan(hits)
    patients = [bootstrap.having(column) for column in counted.T]
    variances = share_variances(hits == 1, counted, bootstrap.index)
    return proportions_of(np.nansum(hits, axis=0), counted.sum(axis=0), patients, variances, reasons)


def share_variances(hits: np.ndarray, counted: np.ndarray, patient: np.ndarray) -> np.ndarray:
    """Compute the variance between patients of K proportions, (K,), by the influence of each patient.

    Cochran 1977, Sampling Techniques, section 6.3: the ratio of two sums over patients.

    Args:
        hits: (N, K) boolean.
        counted: (N, K) boolean: of these cases; all hits are among them.
        patient: (N,) numbers of the patients.
    """
    found = np.full(hits.shape[1], np.nan)
    for k, (hit, case) in enumerate(zip(hits.T, counted.T)):
        own, cases = patient[case], int(case.sum())
        if not cases:
            continue
        influence = np.bincount(own, weights=hit[case] - hit.sum() / cases) / cases
        patients = np.count_nonzero(np.bincount(own))
        found[k] = (influence**2).sum() * patients / max(patients - 1, 1)
    return found


def proportions_of(
    hits: Sequence[float] | np.ndarray,
    cases: Sequence[int] | np.ndarray,
    patients: Sequence[int] | np.ndarray,
    variances: Sequence[float] | np.ndarray,
    reasons: Sequence[str],
) -> list[Estimate]:
    """Compute `proportion` of (K,) hits among (K,) cases of so many patients; `variances` are of the K shares."""
    return [
        proportion(hits[k], int(cases[k]), int(patients[k]), float(variances[k]), reasons[k]) for k in range(len(hits))
    ]


def proportion(hits: float, cases: int, patients: int, variance: float, reason: str) -> Estimate:
    """Compute `hits / cases` with the interval that `proportions` describes.

    Args:
        hits: How many of the cases are.
        cases: How many count.
        patients: Patients of the cases counted.
        variance: Of the share, between patients; unused where each has one case.
        reason: Why it is undefined if `cases` is 0.
    """
    if cases == 0:
        return Estimate(float("nan"), reason=reason)
    share = float(hits / cases)
    name, ends = ("exact", exact) if patients < ENOUGH else ("wilson", wilson)
    if patients == cases or hits in (0, cases):
        low, high = ends(share * patients, patients)
        return Estimate(share, low, high, method=name + ("" if patients == cases else ", patients for cases"))
    if patients < 2:
        return Estimate(share, reason="no interval: cases of one patient only")
    size = effective_cases(share, variance, cases, patients)
    low, high = ends(share * size, size)
    return Estimate(share, low, high, method=f"{name}, effective sample size")
