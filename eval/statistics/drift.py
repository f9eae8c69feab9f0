"""What is watched of a deployed model: means by patient, bounds from a reference, and whether they have left these.

Each quantity is a mean over patients of something in 0..1, so that one test serves all: see `sequential`. Of all
quantities together, alpha bounds the chance of ever raising a false alarm (Bonferroni): half of it is that a bound from
the reference misses the true mean, half that the bets against a right bound succeed.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .exact import exact_bounds
from .sequential import first_alarm, mean_bounds, two_sided_evidence

SCORES, POSITIVE, FAILURE = "scores", "positive rate", "failure rate"
SENSITIVITY, SPECIFICITY, CALIBRATION = "sensitivity", "specificity", "calibration"
BY_LABEL = (SCORES, POSITIVE, SENSITIVITY, SPECIFICITY, CALIBRATION)
OF_TRUTH = (SENSITIVITY, SPECIFICITY, CALIBRATION)
# Ends of the bins of scores: fixed before any data are seen, and fine near 0, where most scores of rare findings are.
EDGES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.97, 0.99)
IN_BOUNDS, OUT_OF_BOUNDS, TOO_FEW = "in bounds", "out of bounds", "too few cases"
BELOW, ABOVE = "below", "above"
_POINTS = 120  # of the evidence, kept for a plot
_MISSING = {
    POSITIVE: "no threshold", SENSITIVITY: "no threshold or no positive case",
    SPECIFICITY: "no threshold or no negative case", CALIBRATION: "no case with known truth",
}  # fmt: skip


class Cases(NamedTuple):
    """Predicted cases.

    Attributes:
        patients: (N,) integers from 0.
        failed: (N,) boolean.
        truth: (N, L) of 0, 1 and NaN (unknown).
        scores: (N, L), NaN where failed.
        predicted: (N, L) predicted labels, 0 or 1; NaN where failed or the label has no threshold.
    """

    patients: np.ndarray
    failed: np.ndarray
    truth: np.ndarray
    scores: np.ndarray
    predicted: np.ndarray


@dataclass(frozen=True)
class Reference:
    """One quantity on the reference cases, and its bounds.

    Attributes:
        kind: Such as `sensitivity`.
        label: Name; empty for the failure rate.
        patients, cases: That it is of.
        value: K means over patients: of `scores` the shares up to each edge, else one.
        low, high: Bounds of these; of calibration all are of truth minus score, moved from -1..1 to 0..1.
    """

    kind: str
    label: str
    patients: int
    cases: int
    value: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


class ByTable(NamedTuple):
    """One table's share of a quantity: how many patients, and their mean (NaN without any)."""

    patients: int
    value: float


@dataclass(frozen=True)
class Watched:
    """What new cases say of one quantity.

    Attributes:
        reference: The quantity.
        verdict: `in bounds`, `out of bounds` or `too few cases`.
        patients: With a case that counts.
        part: Which of the K means the others are of: the one with most evidence.
        value: Mean over all patients so far; NaN without any.
        low, high: Its bounds by the same test, at any time; NaN without any.
        evidence: Largest so far against the bounds, as logarithm to base 10; at `limit` it is an alarm.
        limit: That.
        since: Place of the case at which the alarm was raised; None without alarm.
        side: On which side of its bounds it is then; empty without alarm.
        path: At most 120 points of the evidence from the first patient to the last.
        by_table: In the order of the tables.
    """

    reference: Reference
    verdict: str
    patients: int
    part: int
    value: float
    low: float
    high: float
    evidence: float
    limit: float
    since: int | None
    side: str
    path: tuple[float, ...]
    by_table: tuple[ByTable, ...]


def quantities(labels: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield kind and label of everything that may be watched."""
    yield FAILURE, ""
    for label in labels:
        for kind in BY_LABEL:
            yield kind, label


def references(
    cases: Cases, labels: Sequence[str], alpha: float, edges: Sequence[float] = EDGES
) -> tuple[list[Reference], dict[str, str]]:
    """Return every quantity that the reference cases have, with its bounds, and why the others are not watched."""
    found, missing = {}, {}
    for kind, label in quantities(labels):
        values = case_values(kind, cases, labels.index(label) if label else 0, edges)
        if np.isnan(values).all():
            missing[f"{kind} of {label}" if label else kind] = _MISSING.get(kind, "no scored case")
        else:
            found[kind, label] = values
    share = alpha / 2 / max(1, len(found))
    return [_reference(kind, label, values, cases.patients, share) for (kind, label), values in found.items()], missing


def watch(
    watched: Sequence[Reference],
    cases: Cases,
    labels: Sequence[str],
    times: Mapping[bool, np.ndarray],
    tables: np.ndarray,
    alpha: float,
    notice: float,
    edges: Sequence[float] = EDGES,
) -> list[Watched]:
    """Hold new cases against the bounds.

    Args:
        watched: The quantities.
        cases: N cases.
        labels: Of their columns.
        times: (N,) different ranks of the cases in time, for what needs no truth (False) and for what does (True).
        tables: (N,) from which table each is, integers from 0.
        alpha: Of all quantities together.
        notice: Change that must not stay unseen: fewer cases than show its absence are too few.
        edges: Of the bins of scores.
    """
    found = []
    for reference in watched:
        place = labels.index(reference.label) if reference.label else 0
        values = case_values(reference.kind, cases, place, edges)
        time = times[reference.kind in OF_TRUTH]
        found.append(_watched(reference, values, cases.patients, time, tables, alpha / 2 / len(watched), notice))
    return found


def case_values(kind: str, cases: Cases, place: int, edges: Sequence[float] = EDGES) -> np.ndarray:
    """Return (N, K) values in 0..1 whose mean is the quantity; NaN for cases that do not count.

    Args:
        kind: Of the quantity.
        cases: N cases.
        place: Of the label.
        edges: K ends of bins, for `scores`; else K is 1.
    """
    truth, score, predicted = (column[:, place] for column in (cases.truth, cases.scores, cases.predicted))
    if kind == FAILURE:
        return cases.failed.astype(np.float64)[:, None]
    if kind == SCORES:
        return np.where(np.isnan(score)[:, None], np.nan, score[:, None] <= np.asarray(edges))
    if kind == POSITIVE:
        return predicted[:, None]
    if kind == CALIBRATION:
        return ((1 + truth - score) / 2)[:, None]
    right, one = (predicted, 1) if kind == SENSITIVITY else (1 - predicted, 0)
    return np.where(truth == one, right, np.nan)[:, None]


def shown(kind: str, value: float) -> float:
    """Return a mean as people read it: of calibration, truth minus score."""
    return 2 * value - 1 if kind == CALIBRATION else value


def by_patient(values: np.ndarray, patients: np.ndarray, time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of each patient's cases, in the order in which the last of them came.

    Args:
        values: (N, K), NaN where a case does not count.
        patients: (N,) integers.
        time: (N,) ranks.

    Returns:
        (P, K) means of the P patients with a case that counts, and (P,) the places of their last cases.
    """
    counts = np.flatnonzero(~np.isnan(values[:, 0]))
    counts = counts[np.argsort(time[counts], kind="stable")]
    names, codes = np.unique(patients[counts], return_inverse=True)
    sizes = np.bincount(codes, minlength=len(names))
    sums = np.stack([np.bincount(codes, values[counts, k], len(names)) for k in range(values.shape[1])], axis=1)
    last = np.zeros(len(names), dtype=int)
    last[codes] = np.arange(len(counts))  # of several the latest stays
    order = np.argsort(last)
    return (sums / np.maximum(sizes, 1)[:, None])[order], counts[last[order]]


def _reference(kind: str, label: str, values: np.ndarray, patients: np.ndarray, alpha: float) -> Reference:
    means, _ = by_patient(values, patients, np.arange(len(values)))
    low, high = _reference_bounds(means, alpha / values.shape[1])
    cases = int((~np.isnan(values[:, 0])).sum())
    value = np.round(means.mean(axis=0), 6)
    return Reference(kind, label, len(means), cases, *(tuple(each.tolist()) for each in (value, low, high)))


def _reference_bounds(means: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the bounds of K means: exact where patients are 0 or 1, else those of bets, a little wider."""
    if not np.isin(means, (0, 1)).all():
        return mean_bounds(means, alpha)
    both = [exact_bounds(hits, len(means), 1 - alpha / 2) for hits in means.sum(axis=0)]
    low, high = np.array(both).T
    return np.floor(low * 1e6) / 1e6, np.ceil(high * 1e6) / 1e6


def _watched(
    reference: Reference, values: np.ndarray, patients: np.ndarray, time: np.ndarray, tables: np.ndarray,
    alpha: float, notice: float,
) -> Watched:  # fmt: skip
    means, last = by_patient(values, patients, time)
    of_table = [np.flatnonzero(tables[last] == table) for table in range(int(tables.max(initial=-1)) + 1)]
    limit = -math.log10(alpha)
    if not len(means):
        nan = float("nan")
        empty = tuple(ByTable(0, nan) for _ in of_table)
        return Watched(reference, TOO_FEW, 0, 0, nan, nan, nan, 0.0, limit, None, "", (), empty)
    low, high = np.array(reference.low), np.array(reference.high)
    evidence, parts = two_sided_evidence(means, low, high)
    alarm = first_alarm(evidence, alpha)
    most = int(parts[len(parts) - 1 if alarm is None else alarm].argmax())
    part, side = most % len(low), ABOVE if most >= len(low) else BELOW
    now_low, now_high = mean_bounds(means, alpha / len(low))
    margin = notice / 2 if reference.kind == CALIBRATION else notice
    shows = bool((now_low >= low - margin).all() and (now_high <= high + margin).all())
    verdict = OUT_OF_BOUNDS if alarm is not None else IN_BOUNDS if shows else TOO_FEW
    kept = np.unique(np.linspace(0, len(means) - 1, _POINTS).astype(int))
    return Watched(
        reference=reference,
        verdict=verdict,
        patients=len(means),
        part=part,
        value=float(means[:, part].mean()),
        low=float(now_low[part]),
        high=float(now_high[part]),
        evidence=max(0.0, float(evidence.max())) / math.log(10),
        limit=limit,
        since=None if alarm is None else int(last[alarm]),
        side="" if alarm is None else side,
        path=tuple((evidence[kept] / math.log(10)).tolist()),
        by_table=tuple(
            ByTable(len(own), float(means[own, part].mean()) if len(own) else float("nan")) for own in of_table
        ),
    )
