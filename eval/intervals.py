"""95 % intervals: the bootstrap by patient, percentile intervals, and Wilson's interval for proportions.

Pictures of one patient resemble each other, so the unit drawn with replacement is the patient: all pictures
of a patient come together (cluster bootstrap; Field & Welsh 2007, J. R. Stat. Soc. B 69:369). A resample is a
count per patient, and every figure of merit is computed from those counts as integer weights of the cases:
nothing is copied and nothing is sorted again, which is why 2,000 resamples take seconds
(`PatientBootstrap.ranks`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from scipy.stats import norm

from .metrics import ratio

LEVEL = 0.95
NO_INTERVAL = "no interval is computed"  # how the reason of a figure begins that is shown without one on purpose
FEW = 10  # patients in the smaller class below which percentile intervals are clearly too narrow
_BLOCK = 4_000_000  # numbers held at once per array while resampling: 32 MB
_KEPT = 16_000_000  # patient counts kept for the next metric, not drawn again: 64 MB


@dataclass(frozen=True)
class Estimate:
    """One figure with its interval.

    Attributes:
        value: The figure; NaN if undefined.
        low, high: Ends of the 95 % interval; NaN if there is none.
        reason: Why the figure or its interval is undefined, or what to bear in mind; empty if nothing is to
            be said.
        method: How the interval was made (`bootstrap`, `wilson`, ...).
        undefined: Resamples in which the figure was undefined (a macro mean: in which a label was); they are
            left out of the interval (a macro mean keeps them; see `macro_percentile`).
    """

    value: float
    low: float = float("nan")
    high: float = float("nan")
    reason: str = ""
    method: str = ""
    undefined: int = 0


class PatientBootstrap:
    """Resamples of patients, the same ones each time they are asked for.

    Args:
        patients: N patient names, one per case.
        resamples: R.
        seed: The same seed and the same patients give the same resamples, for any metric and any model.
    """

    def __init__(self, patients: Sequence[str], resamples: int = 2000, seed: int = 0):
        # Sorted, so that the resamples do not depend on the order of the rows either.
        self.index, names = pd.factorize(np.asarray(patients, dtype=object), sort=True)
        self.size, self.resamples, self.seed = len(names), resamples, seed
        self._kept: list[np.ndarray] = []

    @property
    def single(self) -> bool:
        """Whether every patient has one case only."""
        return self.size == len(self.index)

    def smaller_class(self, truth: np.ndarray) -> np.ndarray:
        """Patients with a positive case or with a negative one, whichever are fewer: (L,) for (N, L)."""
        classes = [[len(np.unique(self.index[column == value])) for value in (0, 1)] for column in truth.T]
        return np.array(classes, dtype=int).reshape(-1, 2).min(axis=1)

    def counts(self) -> Iterator[np.ndarray]:
        """How often each patient is drawn: (P, r) int32 blocks of resamples, R columns in all."""
        if self.size * self.resamples > _KEPT:
            yield from self._draw()
            return
        self._kept = self._kept or list(self._draw())
        yield from self._kept

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sums of (N, K) case values in each resample: (R, K) float64. NaN adds nothing."""
        width = values.shape[1]
        if self.size == 0:
            return np.zeros((self.resamples, width))
        per_patient = self._patients_by_cases() @ np.nan_to_num(values.astype(np.float64))
        return np.concatenate([block.T.astype(np.float64) @ per_patient for block in self.counts()])

    def tallies(self, groups: np.ndarray, size: int) -> np.ndarray:
        """Cases of each group in each resample: (R, size) integers. `groups` (N, K) numbers the K groups that a case
        is in, 0 to `size` - 1; -1 is none.
        """
        if self.size == 0:
            return np.zeros((self.resamples, size), dtype=int)
        case, column = np.nonzero(groups >= 0)
        ones = np.ones(len(case), dtype=np.int32)
        matrix = csr_array((ones, (groups[case, column], self.index[case])), shape=(size, self.size))
        return np.concatenate([(matrix @ block).T for block in self.counts()])

    def ranks(self, truth: np.ndarray, scores: np.ndarray) -> dict[str, np.ndarray]:
        """`auroc` and `average_precision` of (N, L) in each resample: (R, L) each, NaN where undefined."""
        shape = (self.resamples, truth.shape[1])
        draws = {"auroc": np.full(shape, np.nan), "average_precision": np.full(shape, np.nan)}
        labels = [label for label in range(truth.shape[1]) if {0.0, 1.0} <= set(np.unique(truth[:, label]))]
        if not labels:
            return draws
        rankings = {i: _Ranking(truth[:, i], scores[:, i], self.index, self.size) for i in labels}
        start = 0
        for block in self.counts():
            rows = slice(start, start + block.shape[1])
            for label, ranking in rankings.items():
                draws["auroc"][rows, label], draws["average_precision"][rows, label] = ranking.weighted(block)
            start = rows.stop
        return draws

    def _draw(self) -> Iterator[np.ndarray]:
        generator = np.random.default_rng(self.seed)
        block = max(16, _BLOCK // max(len(self.index), 1))
        for start in range(0, self.resamples, block):
            width = min(block, self.resamples - start)
            drawn = np.empty((width, self.size), dtype=np.int32)
            for row in drawn:  # one call per resample: the draws do not depend on the size of a block
                row[:] = np.bincount(generator.integers(self.size, size=self.size), minlength=self.size)
            yield np.ascontiguousarray(drawn.T)

    def _patients_by_cases(self) -> csr_array:
        ones = np.ones(len(self.index))
        return csr_array((ones, (self.index, np.arange(len(self.index)))), shape=(self.size, len(self.index)))


class _Ranking:
    """One label's cases in falling order of score, folded to what AUROC and average precision need.

    Both change only at scores that a positive case has. Call the distinct ones s_1 > ... > s_K. It is enough
    to know, for each k, the weight of the positive cases at s_k, of the negative cases at s_k, and of the
    negative cases between s_k and the one above. These 3K numbers are one sparse matrix times the patient
    counts.
    """

    def __init__(self, truth: np.ndarray, score: np.ndarray, patient: np.ndarray, patients: int):
        known = np.flatnonzero(~np.isnan(truth))
        order = known[np.argsort(-score[known], kind="stable")]
        positive, score, patient = truth[order] == 1, score[order], patient[order]
        tie = np.cumsum(np.concatenate([[False], score[1:] != score[:-1]]))
        has_positive = np.bincount(tie, weights=positive) > 0
        step = (np.cumsum(has_positive) - has_positive)[tie]  # k - 1; K for negatives below the last positive
        self.steps = steps = int(has_positive.sum())
        row = np.where(positive, step, np.where(has_positive[tie], steps + step, 2 * steps + step))
        ones = np.ones(len(order), dtype=np.int32)
        self.matrix = csr_array((ones, (row, patient)), shape=(3 * steps + 1, patients))

    def weighted(self, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """AUROC and average precision, (r,) each, for (P, r) patient counts; NaN if a class is not drawn."""
        weights, k = self.matrix @ counts, self.steps
        positive, tied, between = weights[:k], weights[k : 2 * k], weights[2 * k :]
        false = np.cumsum(between[:k] + tied, axis=0, dtype=np.int32)  # at or above s_k
        true = np.cumsum(positive, axis=0, dtype=np.int32)
        all_true, all_false = true[-1].astype(np.float64), (false[-1] + between[k]).astype(np.float64)
        # Pairs in the wrong order count 1, tied pairs one half: doubled, so that the sum stays an integer.
        wrong = np.einsum("kr,kr->r", positive, 2 * false - tied, dtype=np.int64)
        auroc = 1 - ratio(wrong, 2 * all_true * all_false)
        precision = true / np.maximum(true + false, 1)
        precision = ratio(np.einsum("kr,kr->r", positive, precision), all_true)
        return auroc, np.where(all_false > 0, precision, np.nan)


def percentile(value: float, draws: np.ndarray, reason: str = "", few: int | None = None) -> Estimate:
    """The figure with the 2.5th and 97.5th percentile of its (R,) draws; undefined ones are left out.

    Args:
        value: The figure on the cases themselves.
        draws: The figure in each resample.
        reason: Why `value` is NaN, where it is.
        few: Patients in the smaller class. With one there is no interval, for resampling one patient shows no
            spread; below `FEW` the estimate says that its interval is too narrow to trust.
    """
    if np.isnan(value):
        return Estimate(value, reason=reason or "undefined")
    if few is not None and few < 2:
        return Estimate(value, reason="no interval: a class has cases of one patient only")
    defined = draws[~np.isnan(draws)]
    undefined = len(draws) - len(defined)
    if len(defined) < 2:
        return Estimate(value, reason="no interval: undefined in every resample", undefined=undefined)
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    note = ""
    if low == high:
        note = "no spread between resamples: too few cases for an interval"
    elif few is not None and few < FEW:
        note = f"a class has cases of {few} patients only: the interval is too narrow to trust"
    return Estimate(value, float(low), float(high), note, "bootstrap", undefined)


def macro_percentile(values: np.ndarray, draws: np.ndarray, reason: str = "no label is defined") -> Estimate:
    """Mean over the labels that are defined on the cases themselves, with its interval.

    Args:
        values: (L,) figures, NaN where undefined.
        draws: (R, L) the same in each resample.
        reason: What to say where no label is defined.

    Returns:
        The estimate; its `undefined` counts the resamples in which one of these labels was undefined.
    """
    defined = ~np.isnan(values)
    if not defined.any():
        return Estimate(float("nan"), reason=reason)
    missing = np.isnan(draws[:, defined]).any(axis=1)
    estimate = percentile(float(values[defined].mean()), macro_draws(values, draws))
    return replace(estimate, undefined=int(missing.sum()))


def macro_draws(values: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """The macro mean in each resample (R,), from (L,) figures and their (R, L) draws.

    A resample may miss all positive cases of a rare label. To leave that label out of the resample's mean
    would mix means over different labels, so deviations are averaged: the macro mean plus the mean deviation
    of the labels that are defined in that resample from their own figures.
    """
    deviations = draws - values
    mean_deviation = ratio(np.nansum(deviations, axis=1), (~np.isnan(deviations)).sum(axis=1))
    defined = values[~np.isnan(values)]
    return mean_deviation + (defined.mean() if len(defined) else np.nan)


def wilson(hits: float, cases: float) -> tuple[float, float]:
    """Wilson's 95 % score interval (1927) for `hits` of `cases` independent cases; NaN if `cases` is 0."""
    if cases == 0:
        return float("nan"), float("nan")
    z = norm.ppf((1 + LEVEL) / 2)
    share = hits / cases
    middle = (share + z**2 / (2 * cases)) / (1 + z**2 / cases)
    half = z * np.sqrt(share * (1 - share) / cases + z**2 / (4 * cases**2)) / (1 + z**2 / cases)
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def proportions(hits: np.ndarray, bootstrap: PatientBootstrap, reasons: Sequence[str]) -> list[Estimate]:
    """K proportions with intervals.

    Wilson's interval where every patient counted has one case; else the bootstrap by patient; and where all
    or none are hits, so that resampling shows no spread, Wilson's with patients for cases, which is wide
    enough.

    Args:
        hits: (N, K) of 1 (a hit), 0, and NaN (this case does not count here).
        bootstrap: The N cases' patients.
        reasons: K texts: why the proportion is undefined if no case counts.
    """
    counted = ~np.isnan(hits)
    cases, total = counted.sum(axis=0), np.nansum(hits, axis=0)
    patients = [len(np.unique(bootstrap.index[column])) for column in counted.T]
    draws = None
    if any(p < n for p, n in zip(patients, cases)):
        draws = ratio(bootstrap.sums(hits), bootstrap.sums(counted))
    return [
        proportion(total[k], n, p, np.empty(0) if draws is None else draws[:, k], reasons[k])
        for k, (n, p) in enumerate(zip(cases, patients))
    ]


def proportion(hits: float, cases: int, patients: int, draws: np.ndarray, reason: str) -> Estimate:
    """`hits / cases` with the interval that `proportions` describes.

    Args:
        patients: Patients of the cases counted.
        draws: (R,) the proportion in each resample; unused where Wilson's interval is taken.
        reason: Why it is undefined if `cases` is 0.
    """
    if cases == 0:
        return Estimate(float("nan"), reason=reason)
    share = float(hits / cases)
    if patients == cases or hits in (0, cases):
        method = "wilson" if patients == cases else "wilson, patients for cases"
        return Estimate(share, *wilson(share * patients, patients), method=method)
    return percentile(share, draws)
