"""Two thresholds between which a reader decides: above the one the PPV holds, below the other the NPV.

The promise: with probability 1 - delta over the drawing of the validation patients, both predictive values reach what
was asked of them in new patients of the same kind. Each is tested at delta / 2 with an exact binomial test, threshold
by threshold from few decided cases to many, until one fails (fixed-sequence testing: Angelopoulos et al. 2025, Ann.
Appl. Stat. 19:1641). The sequence begins at a number of cases that is fixed before: the least at which one wrong case
may be among them. It rests on higher scores being no less often positive. Cases of one patient resemble each other, so
one case of each patient counts, drawn at random.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import binom

from ...core.errors import UserError
from .intervals import Estimate, PatientBootstrap, proportions

EVERY = float(np.nextafter(1, 2))  # a threshold that every score is below


@dataclass(frozen=True)
class Promise:
    """What is asked of cases that no reader sees.

    Attributes:
        ppv, npv: Least predictive values; None where no case is to be called positive, or negative.
        delta: Chance that one of them does not hold.

    Raises:
        UserError: One is out of its range, or neither is asked for.
    """

    ppv: float | None = None
    npv: float | None = None
    delta: float = 0.05

    def __post_init__(self) -> None:
        """Check the values."""
        if self.ppv is None and self.npv is None:
            raise UserError("triage: ask for a PPV, an NPV or both, such as ppv=0.9,npv=0.99.")
        for name in ("ppv", "npv"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                raise UserError(f"triage: {name} {value:g} is no share between 0 and 1, such as 0.95.")
        if not 0 < self.delta < 0.5:
            raise UserError(f"triage: delta {self.delta:g}: above 0 and below 0.5, such as 0.05.")

    @property
    def each(self) -> float:
        """Return the chance of error of each of the predictive values that are asked for (Bonferroni)."""
        return self.delta / (2 if self.ppv is not None and self.npv is not None else 1)


def read_promise(text: str) -> Promise:
    """Read `ppv=0.9,npv=0.99` or `npv=0.99,delta=0.1`.

    Raises:
        UserError: It is something else.
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        name, sign, value = part.strip().partition("=")
        try:
            if not sign or name not in ("ppv", "npv", "delta") or name in found:
                raise ValueError
            found[name] = float(value)
        except ValueError:
            raise UserError(f"triage {text!r}: write ppv=0.9,npv=0.99, either of them, and delta=0.05.") from None
    return Promise(**found)


@dataclass(frozen=True)
class Cut:
    """One of the two thresholds.

    Attributes:
        threshold: Where cases are decided; NaN where no case may be.
        tested: Patients that tested it, on the side that is decided.
        right: Of these.
        reason: Why there is none; else empty.
    """

    threshold: float
    tested: int = 0
    right: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Triage:
    """One label's thresholds and what they do to the evaluated cases.

    Attributes:
        upper, lower: Cases at or above `upper` are called positive, those below `lower` negative.
        patients: Validation patients with known truth, one case of each.
        metrics: On the evaluated cases: `ppv`, `npv`, and the shares `called_positive`, `called_negative`, `left`.
        counts: Of the evaluated cases `called_positive`, `called_negative`, `left` and `true_positive`,
            `true_negative` among those called.
    """

    upper: Cut
    lower: Cut
    patients: int
    metrics: dict[str, Estimate]
    counts: dict[str, int]


def one_per_patient(patients: Sequence[str], known: np.ndarray, seed: int) -> np.ndarray:
    """Return rows, in ascending order, of one random case of each patient among the (N,) known ones."""
    rows = np.flatnonzero(known)
    shuffled = np.random.default_rng(seed).permutation(rows)
    first = ~pd.Series(np.asarray(patients, dtype=object)[shuffled]).duplicated().to_numpy()
    return np.sort(shuffled[first])


def triage_cuts(truth: np.ndarray, score: np.ndarray, promise: Promise) -> tuple[Cut, Cut]:
    """Choose the upper and the lower threshold on (N,) truths of 0 and 1 and scores of independent cases."""
    above, below = _Side(truth == 1, score, False), _Side(truth == 0, score, True)
    upper, held_above = _cut(above, promise.ppv, promise.each)
    lower, held_below = _cut(below, promise.npv, promise.each)
    if not upper.threshold < lower.threshold:
        return upper, lower
    both = np.intersect1d(held_above, held_below)  # every case may be decided: at one threshold where both hold
    if not len(both):
        return upper, Cut(float("nan"), reason="the thresholds cross: only positive cases are called")
    middle = float(both[len(both) // 2])
    return above.cut(middle), below.cut(middle)


def triage(
    val: tuple[np.ndarray, np.ndarray, Sequence[str]],
    test: tuple[np.ndarray, np.ndarray],
    bootstrap: PatientBootstrap,
    promise: Promise,
    seed: int = 0,
) -> Triage:
    """Choose thresholds on validation cases of one label, and count what they do to the evaluated ones.

    Args:
        val: (N,) truths of 0, 1, NaN, scores and patients.
        test: (M,) truths and scores of the evaluated cases; a score of NaN, of a failed case, is left to the reader.
        bootstrap: The M cases' patients.
        promise: What must hold.
        seed: Of the draw of one case per patient.
    """
    truth, score, patients = val
    rows = one_per_patient(patients, ~np.isnan(truth), seed)
    upper, lower = triage_cuts(truth[rows], score[rows], promise)
    metrics, counts = _applied(*test, upper, lower, bootstrap)
    return Triage(upper, lower, len(rows), metrics, counts)


class _Side:
    """The cases that would be decided at each threshold, on one side.

    Args:
        right: (N,) boolean: this side would be right of the case.
        score: (N,).
        below: Whether the side is that of the low scores.
    """

    def __init__(self, right: np.ndarray, score: np.ndarray, below: bool):
        self.below, self._scores, self._right = below, np.sort(score), np.sort(score[right])
        levels = np.unique(score)
        # From few decided cases to many.
        self.thresholds = np.append(levels[1:], EVERY) if below else levels[::-1]

    def tally(self, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return how many cases are rightly decided, and decided, at each (T,) threshold."""
        hits, cases = (np.searchsorted(scores, thresholds, side="left") for scores in (self._right, self._scores))
        return (hits, cases) if self.below else (len(self._right) - hits, len(self._scores) - cases)

    def cut(self, threshold: float) -> Cut:
        """Return the threshold with the cases that tested it."""
        hits, cases = self.tally(np.array([threshold]))
        return Cut(threshold, int(cases[0]), int(hits[0]))


def _cut(side: _Side, floor: float | None, error: float) -> tuple[Cut, np.ndarray]:
    """Return the threshold that decides most cases, and all that hold."""
    none = np.empty(0)
    if floor is None:
        return Cut(float("nan"), reason="not asked for"), none
    hits, cases = side.tally(side.thresholds)
    least = cases_with_one_wrong(floor, error)
    if cases[-1:].sum() < least:
        why = f"{cases[-1:].sum():,} validation patients are too few: at least {least:,} must be decided to show it"
        return Cut(float("nan"), reason=why), none
    beginning = int(np.searchsorted(cases, least))
    held = binom.sf(hits - 1, cases, floor)[beginning:] <= error
    steps = len(held) if held.all() else int(np.argmin(held))
    if not steps:
        why = f"of the {cases[beginning]:,} surest cases {hits[beginning]:,} are right, which does not show it"
        return Cut(float("nan"), reason=why), none
    found = side.thresholds[beginning : beginning + steps]
    return side.cut(float(found[-1])), found


def cases_with_one_wrong(floor: float, error: float) -> int:
    """Return of how few cases all but one must be right to show a rate above `floor` at this chance of error."""
    low, high = 2, 4
    while binom.sf(high - 2, high, floor) > error:
        low, high = high, 2 * high
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if binom.sf(middle - 2, middle, floor) <= error else (middle + 1, high)
    return high


def _applied(
    truth: np.ndarray, score: np.ndarray, upper: Cut, lower: Cut, bootstrap: PatientBootstrap
) -> tuple[dict[str, Estimate], dict[str, int]]:
    known = ~np.isnan(truth)
    positive = known & (score >= upper.threshold)  # nothing is at or above NaN
    negative = known & (score < lower.threshold)
    left = known & ~positive & ~negative
    hits = {
        "ppv": np.where(positive, truth == 1, np.nan),
        "npv": np.where(negative, truth == 0, np.nan),
        "called_positive": np.where(known, positive, np.nan),
        "called_negative": np.where(known, negative, np.nan),
        "left": np.where(known, left, np.nan),
    }
    reasons = ["no case is called positive", "no case is called negative", *["no case with known truth"] * 3]
    found = proportions(np.column_stack(list(hits.values())).astype(np.float64), bootstrap, reasons)
    counts = {
        "called_positive": positive,
        "called_negative": negative,
        "left": left,
        "true_positive": positive & (truth == 1),
        "true_negative": negative & (truth == 0),
    }
    return dict(zip(hits, found)), {name: int(rows.sum()) for name, rows in counts.items()}
