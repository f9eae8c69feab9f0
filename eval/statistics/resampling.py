"""The bootstrap by patient: metrics under weights of patients, without copying or sorting a case.

Images of one patient resemble each other, so the unit drawn with replacement is the patient: all images of a
patient come together (cluster bootstrap; Field & Welsh 2007, J. R. Stat. Soc. B 69:369). A resample is a count per
patient, and every metric is computed from those counts as integer weights of the cases, which is why 2,000
resamples take seconds (`Reweighted.ranks`). The jackknife, which BCa intervals need, is more of the same: counts of
1, and 0 for the patients left out.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from scipy.stats import poisson

from .metrics import ratio

_BLOCK = 4_000_000  # numbers held at once per array while resampling: 32 MB
_CHUNK = 1 << 16  # numbers that stay in a processor's cache
_KEPT = 200_000_000  # patient counts kept for the next metric, not drawn again: 200 MB, 2,000 of the most drawn exactly
_POISSON = 100_000  # patients above which counts are drawn independently, which is three times as fast
_AT_ONCE = 1 << 13  # cases whose counts are added up at once: they stay in a processor's cache
_LEFT_OUT = 2_000  # the jackknife leaves out at most so many groups of patients, one after the other


class Reweighted:
    """Cases whose patients have been drawn so many times each: what bootstrap and jackknife share.

    Args:
        patients: N patient names, one per case.
        resamples: R.
        seed: The same seed and the same patients give the same resamples, for any metric and any model.
    """

    def __init__(self, patients: Sequence[str], resamples: int, seed: int):
        """Number the patients."""
        # Sorted, so that the resamples do not depend on the order of the rows either.
        self.index, names = pd.factorize(np.asarray(patients, dtype=object), sort=True)
        self.size, self.resamples, self.seed = len(names), resamples, seed
        self._kept: list[np.ndarray] = []

    @property
    def single(self) -> bool:
        """Return whether every patient has one case only."""
        return self.size == len(self.index)

    def smaller_class(self, truth: np.ndarray) -> np.ndarray:
        """Count patients with a positive or with a negative case, whichever are fewer: (L,) for (N, L)."""
        classes = [[self.having(column == value) for value in (0, 1)] for column in truth.T]
        return np.array(classes, dtype=int).reshape(-1, 2).min(axis=1)

    def having(self, cases: np.ndarray) -> int:
        """Count patients with one of these cases, (N,) boolean."""
        return int(np.count_nonzero(np.bincount(self.index[cases], minlength=1)))

    def counts(self) -> Iterator[np.ndarray]:
        """Yield how often each patient is drawn: (P, r) int32 blocks of resamples, R columns in all."""
        for block in self._blocks():
            yield block.astype(np.int32)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sum (N, K) case values in each resample: (R, K) float64. NaN adds nothing."""
        width = values.shape[1]
        if self.size == 0:
            return np.zeros((self.resamples, width))
        per_patient = np.ascontiguousarray((self._patients_by_cases() @ np.nan_to_num(values.astype(np.float64))).T)
        return np.concatenate([_product(per_patient, block).T for block in self._blocks()])

    def tallies(self, groups: np.ndarray, size: int) -> np.ndarray:
        """Count the cases of each group in each resample: (R, size) integers.

        `groups` (N, K) numbers the K groups that a case is in, 0 to `size` - 1; -1 is none.
        """
        if self.size == 0:
            return np.zeros((self.resamples, size), dtype=int)
        case, column = np.nonzero(groups >= 0)
        sums = _GroupSums(groups[case, column], self.index[case], size)
        return np.concatenate([sums(block).T for block in self._blocks()])

    def ranks(self, truth: np.ndarray, scores: np.ndarray) -> dict[str, np.ndarray]:
        """Compute `auroc` and `average_precision` of (N, L) in each resample: (R, L) each, NaN where undefined."""
        shape = (self.resamples, truth.shape[1])
        draws = {"auroc": np.full(shape, np.nan), "average_precision": np.full(shape, np.nan)}
        labels = [label for label in range(truth.shape[1]) if {0.0, 1.0} <= set(np.unique(truth[:, label]))]
        if not labels:
            return draws
        rankings = {i: _Ranking(truth[:, i], scores[:, i], self.index) for i in labels}
        start = 0
        for block in self._blocks():
            rows = slice(start, start + block.shape[1])
            for label, ranking in rankings.items():
                draws["auroc"][rows, label], draws["average_precision"][rows, label] = ranking.weighted(block)
            start = rows.stop
        return draws

    def _blocks(self) -> Iterator[np.ndarray]:
        """Return the counts as uint8 (no patient is drawn 256 times), kept where there is room for all."""
        if self.size * self.resamples > _KEPT:
            return self._draw()
        self._kept = self._kept or list(self._draw())
        return iter(self._kept)

    def _draw(self) -> Iterator[np.ndarray]:
        """Yield (P, r) uint8 blocks."""
        raise NotImplementedError

    def _width(self) -> int:
        """Return how many resamples are in a block."""
        return max(16, _BLOCK // max(len(self.index), 1))

    def _patients_by_cases(self) -> csr_array:
        ones = np.ones(len(self.index))
        return csr_array((ones, (self.index, np.arange(len(self.index)))), shape=(self.size, len(self.index)))


class PatientBootstrap(Reweighted):
    """Resamples of patients, the same ones each time they are asked for.

    Args:
        patients: N patient names, one per case.
        resamples: R.
        seed: The same seed and the same patients give the same resamples, for any metric and any model.
        strata: N numbers, the same for all cases of a patient: as many patients of each stratum are drawn as there are.
            None: all patients are one stratum.
        bca: Whether `drawn` also leaves patients out one by one, for BCa intervals.
    """

    def __init__(
        self,
        patients: Sequence[str],
        resamples: int = 2000,
        seed: int = 0,
        strata: np.ndarray | None = None,
        bca: bool = False,
    ):
        """Number the patients and part them by stratum."""
        super().__init__(patients, resamples, seed)
        self._strata = [np.arange(self.size)] if strata is None else self._members(strata)
        self._exact = strata is not None or self.size <= _POISSON
        self.jackknife = PatientJackknife(patients, seed, self._strata) if bca and self.size else None

    def drawn(self, metrics: "Callable[[Reweighted], dict[str, np.ndarray]]") -> dict[str, "Drawn"]:
        """Compute metrics under these resamples.

        Args:
            metrics: Gives (R, K) arrays by name from R reweightings of the cases.
        """
        draws = metrics(self)
        if self.jackknife is None:
            return {name: Drawn(values, None, None) for name, values in draws.items()}
        left_out = metrics(self.jackknife)
        return {name: Drawn(values, left_out[name], self.jackknife) for name, values in draws.items()}

    def _members(self, strata: np.ndarray) -> list[np.ndarray]:
        of_patient = np.empty(self.size, dtype=int)
        of_patient[self.index] = strata
        return [np.flatnonzero(of_patient == stratum) for stratum in np.unique(of_patient)]

    def _draw(self) -> Iterator[np.ndarray]:
        generator = np.random.default_rng(self.seed)
        for start in range(0, self.resamples, self._width()):
            width = min(self._width(), self.resamples - start)
            yield self._multinomial(generator, width) if self._exact else _poisson(generator, (self.size, width))

    def _multinomial(self, generator: np.random.Generator, width: int) -> np.ndarray:
        drawn = np.empty((width, self.size), dtype=np.uint8)
        for row in drawn:  # one call per resample: the draws do not depend on the size of a block
            for members in self._strata:
                among = len(members)
                row[members] = np.bincount(generator.integers(among, size=among), minlength=among)
        return np.ascontiguousarray(drawn.T)


_LAST: ContextVar[list[tuple[tuple, PatientBootstrap]] | None] = ContextVar("_LAST", default=None)


@contextmanager
def shared_resamples() -> Iterator[None]:
    """Keep the resamples of the last patients while this lasts, for whoever asks `patient_bootstrap` for the same."""
    token = _LAST.set([])
    try:
        yield
    finally:
        _LAST.reset(token)


def patient_bootstrap(
    patients: Sequence[str], resamples: int, seed: int, strata: np.ndarray | None = None, bca: bool = False
) -> PatientBootstrap:
    """Return the bootstrap of these patients; within `shared_resamples` the last one, where it is of the same.

    Names of a million patients are then sorted once, and what is kept of the resamples is drawn once.
    """
    held, names = _LAST.get(), np.asarray(patients, dtype=object)
    asked = (resamples, seed, bca, strata is None)
    for (before, strata_before, *others), bootstrap in held or ():
        same = tuple(others) == asked and np.array_equal(before, names)
        if same and (strata is None or np.array_equal(strata, strata_before)):
            return bootstrap
    made = PatientBootstrap(patients, resamples, seed, strata, bca)
    if held is not None:
        held[:] = [((names, strata, *asked), made)]
    return made


class PatientJackknife(Reweighted):
    """The cases without one patient, for each patient; of more than 2,000 patients, without a small group of them.

    Groups are as good here: the sum over a group is as skewed as theory says, and 2,000 of them tell the skewness.

    Args:
        patients: N patient names, one per case.
        seed: Groups are drawn at random.
        strata: The patients' numbers by stratum; groups lie within one.
    """

    def __init__(self, patients: Sequence[str], seed: int, strata: Sequence[np.ndarray]):
        """Number the patients and draw the groups."""
        super().__init__(patients, 0, seed)
        together = -(-self.size // _LEFT_OUT)
        generator = np.random.default_rng(seed)
        self._groups, of_stratum = [], []
        for number, members in enumerate(strata):
            members = generator.permutation(members) if together > 1 else members
            groups = np.array_split(members, -(-len(members) // together))
            self._groups += groups
            of_stratum += [number] * len(groups)
        self._of_stratum, self.resamples = np.array(of_stratum, dtype=int), len(self._groups)

    def acceleration(self, left_out: np.ndarray) -> np.ndarray:
        """Compute BCa's acceleration (Efron 1987, J. Am. Stat. Assoc. 82:171), (K,) from (J, K) metrics.

        The metrics are those with patients left out; 0 where nothing changes. NaN counts as no change.
        """
        size = np.bincount(self._of_stratum)[self._of_stratum, None]
        defined = ~np.isnan(left_out)
        sums = np.zeros((2, self._of_stratum.max(initial=0) + 1, left_out.shape[1]))
        np.add.at(sums[0], self._of_stratum, np.nan_to_num(left_out))
        np.add.at(sums[1], self._of_stratum, defined)
        mean = ratio(*sums)[self._of_stratum]
        influence = np.where(defined, (mean - left_out) * (size - 1) / size, 0.0)
        influence[np.abs(influence) < 1e-12 * np.abs(mean)] = 0  # rounding is no influence
        return np.nan_to_num(ratio((influence**3).sum(axis=0), 6 * (influence**2).sum(axis=0) ** 1.5))

    def _draw(self) -> Iterator[np.ndarray]:
        for start in range(0, self.resamples, self._width()):
            groups = self._groups[start : start + self._width()]
            counts = np.ones((self.size, len(groups)), dtype=np.uint8)
            for column, group in enumerate(groups):
                counts[group, column] = 0
            yield counts


class Drawn(NamedTuple):
    """A metric in the resamples.

    Attributes:
        resampled: (R, K).
        left_out: (J, K), the same with patients left out, where BCa intervals are wanted.
        jackknife: What left them out.
    """

    resampled: np.ndarray
    left_out: np.ndarray | None
    jackknife: PatientJackknife | None

    def acceleration(self) -> np.ndarray | None:
        """Return the (K,) accelerations for `intervals.percentile`; None without BCa."""
        if self.left_out is None or self.jackknife is None:
            return None
        return self.jackknife.acceleration(self.left_out)

    def joined(self, other: "Drawn") -> "Drawn":
        """Return the metrics of both beside each other, drawn by the same resamples."""
        out = None
        if self.left_out is not None and other.left_out is not None:
            out = np.concatenate([self.left_out, other.left_out], axis=1)
        return self._replace(resampled=np.concatenate([self.resampled, other.resampled], axis=1), left_out=out)

    def map(self, change: Callable[[np.ndarray], np.ndarray]) -> "Drawn":
        """Return another metric that follows from this one, by the resample."""
        return self._replace(
            resampled=change(self.resampled), left_out=None if self.left_out is None else change(self.left_out)
        )


def rarest_finding(truth: np.ndarray, patients: Sequence[str]) -> np.ndarray:
    """Return strata for several labels: of each patient the rarest label among those it has; L for none.

    For one label these are the patients with a positive case and those without; for exclusive classes with one case
    per patient they are the classes. The rarest label of all is then never missing from a resample.

    Args:
        truth: (N, L) of 0, 1, NaN.
        patients: N names.

    Returns:
        (N,) integers, the same for all cases of a patient.
    """
    index, names = pd.factorize(np.asarray(patients, dtype=object))
    labels = truth.shape[1]
    has = np.zeros((len(names), labels + 1), dtype=bool)
    case, label = np.nonzero(truth == 1)
    has[index[case], label] = True
    has[:, labels] = True
    rarity = np.append(np.argsort(np.argsort(has[:, :labels].sum(axis=0), kind="stable"), kind="stable"), labels)
    return np.where(has, rarity, labels + 1).argmin(axis=1)[index]


class _GroupSums:
    """How many of the cases of each group are drawn: a sparse matrix times the counts of the patients, piece by piece.

    The cases of a piece are neighbours in the matrix, and the counts of their patients are brought together as bytes
    first: of a million cases the counts lie in no cache, and a product that looks for each of them waits for memory.

    Args:
        group: (n,) of each case, 0 to `size` - 1; a case may be there several times.
        patient: (n,) of each case.
        size: G groups.
    """

    def __init__(self, group: np.ndarray, patient: np.ndarray, size: int):
        order = np.argsort(group, kind="stable")
        group, patient = group[order], patient[order].astype(np.intp)
        self.size, self.pieces = size, []
        for start in range(0, len(group), _AT_ONCE):
            here = slice(start, min(start + _AT_ONCE, len(group)))
            rows, cases = slice(int(group[start]), int(group[here.stop - 1]) + 1), here.stop - start
            ones, at = np.ones(cases, dtype=np.int32), (group[here] - rows.start, np.arange(cases))
            matrix = csr_array((ones, at), shape=(rows.stop - rows.start, cases))
            self.pieces.append((rows, matrix, patient[here]))

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        """Return (G, r) int32 for (P, r) uint8 counts."""
        sums = np.zeros((self.size, counts.shape[1]), dtype=np.int32)
        for rows, matrix, patient in self.pieces:
            # The mode spares a copy; no patient is outside.
            sums[rows] += matrix @ np.take(counts, patient, axis=0, mode="clip").astype(np.int32)
        return sums


class _Ranking:
    """One label's cases in falling order of score, folded to what AUROC and average precision need.

    Both change only at scores that a positive case has. Call the distinct ones s_1 > ... > s_K. It is enough
    to know, for each k, the weight of the positive cases at s_k, of the negative cases at s_k, and of the
    negative cases between s_k and the one above: 3K sums over groups of cases.
    """

    def __init__(self, truth: np.ndarray, score: np.ndarray, patient: np.ndarray):
        known = np.flatnonzero(~np.isnan(truth))
        order = known[np.argsort(-score[known], kind="stable")]
        positive, score, patient = truth[order] == 1, score[order], patient[order]
        tie = np.cumsum(np.concatenate([[False], score[1:] != score[:-1]]))
        has_positive = np.bincount(tie, weights=positive) > 0
        step: np.ndarray = (np.cumsum(has_positive) - has_positive)[
            tie
        ]  # k - 1; K for negatives below the last positive
        self.steps = steps = int(has_positive.sum())
        row = np.where(positive, step, np.where(has_positive[tie], steps + step, 2 * steps + step))
        self.sums = _GroupSums(row, patient, 3 * steps + 1)

    def weighted(self, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute AUROC and average precision, (r,) each, for (P, r) uint8 counts; NaN if a class is not drawn."""
        weights, k = self.sums(counts), self.steps
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


def _product(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Multiply (K, P) float64 by (P, r) uint8 in pieces: the counts as float64 would be slow to write to memory."""
    total, rows = np.zeros((len(values), counts.shape[1])), max(1, _CHUNK // counts.shape[1])
    piece = np.empty((rows, counts.shape[1]))
    for start in range(0, len(counts), rows):
        here = counts[start : start + rows]
        piece[: len(here)] = here
        total += values[:, start : start + rows] @ piece[: len(here)]
    return total


def _poisson(generator: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Draw independent counts with the mean 1, uint8.

    They differ from drawing with replacement by the number drawn alone, which no ratio notices among so many patients
    (Hanley & MacGibbon 2006, Comput. Methods Programs Biomed. 83:57).
    """
    table = np.searchsorted(poisson.cdf(np.arange(16), 1), (np.arange(1 << 16) + 0.5) / (1 << 16)).astype(np.uint8)
    counts = np.empty(shape[0] * shape[1], dtype=np.uint8)
    for start in range(0, len(counts), _CHUNK):
        here = counts[start : start + _CHUNK]
        chances = generator.bit_generator.random_raw(-(-len(here) // 4)).view(np.uint16)[: len(here)]
        np.take(table, chances, out=here, mode="clip")  # the mode spares a copy; no chance is outside
    return counts.reshape(shape)
