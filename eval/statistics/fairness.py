"""Gaps between groups of patients: who is missed more often, who is alarmed more often, whose scores are off.

Equal opportunity compares sensitivities, equalised odds false-positive rates too (Hardt et al. 2016, NeurIPS 29);
calibration by group compares the mean of score minus truth. Each group is compared with all other cases, also groups
of two columns together (women over 80). The interval of a difference of two rates is made of those of both, Wilson's of
the effective number of cases (Newcombe 1998, Statist. Med. 17:873), less what patients with cases on both sides share.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy.stats import norm

from .groups import NOT_RECORDED, Group
from .holm import holm
from .intervals import LEVEL, Estimate, PatientBootstrap, wilson
from .metrics import ratio
from .reservations import FEW, too_few
from .unpaired import differences, mean_gaps

OPPORTUNITY, ODDS, CALIBRATION = "sensitivity", "false_positive_rate", "mean_score_minus_truth"
METRICS = (OPPORTUNITY, ODDS, CALIBRATION)
METHOD = "newcombe, by patient"
_ALPHA = 1 - LEVEL
_MOST = 24  # groups of two columns


@dataclass(frozen=True)
class Gap:
    """One metric of one group against all other cases.

    Attributes:
        label, metric: Of these.
        column, group: The latter is `F`, or `F, 60-79` of the column `sex, age`.
        cases, patients: Cases of the group that the metric is over (positive ones for a sensitivity), of so many
            patients.
        value, others: Of the group, and of all other cases.
        difference: Value minus others.
        p, adjusted: Two-sided, and by Holm over all gaps of the model; NaN where too few patients are on one side.
        mirrored: The group is the second of two: the same comparison turned round, which counts once.
    """

    label: str
    metric: str
    column: str
    group: str
    cases: int
    patients: int
    value: float
    others: float
    difference: Estimate
    p: float
    adjusted: float = float("nan")
    mirrored: bool = False

    @property
    def shown(self) -> bool:
        """Return whether the gap remains after the correction for all of them."""
        return bool(self.adjusted < _ALPHA)

    @property
    def worse(self) -> bool:
        """Return whether the group is worse off than the others: missed more, alarmed more, or scored further off."""
        if self.metric == CALIBRATION:
            return abs(self.value) > abs(self.others)
        return self.difference.value < 0 if self.metric == OPPORTUNITY else self.difference.value > 0


def with_intersections(parted: Sequence[tuple[str, Group]], index: np.ndarray) -> list[tuple[str, Group]]:
    """Return the groups of each column, and of each two columns those that both have recorded.

    Of the latter the 24 largest that have 10 patients or more, `index` (N,) numbering the patients.
    """
    known = [(column, group) for column, group in parted if group.name != NOT_RECORDED]
    columns = list(dict.fromkeys(column for column, _ in known))
    crossed = [
        (f"{one}, {two}", Group(f"{a.name}, {b.name}", a.rows & b.rows))
        for one, two in combinations(columns, 2)
        for a in (group for column, group in known if column == one)
        for b in (group for column, group in known if column == two)
    ]
    sizes = [len(np.unique(index[group.rows])) for _, group in crossed]
    largest = sorted(np.argsort([-size for size in sizes], kind="stable")[:_MOST].tolist())
    return [*known, *(crossed[i] for i in largest if sizes[i] >= FEW)]


def fairness_gaps(
    truth: np.ndarray,
    scores: np.ndarray,
    thresholds: Sequence[float],
    labels: Sequence[str],
    parted: Sequence[tuple[str, Group]],
    bootstrap: PatientBootstrap,
) -> list[Gap]:
    """Compute all gaps of one model.

    Args:
        truth: (N, L).
        scores: (N, L).
        thresholds: L of them; NaN leaves the rates out.
        labels: L names.
        parted: Column and group, whose rows are (N,) boolean.
        bootstrap: The N cases' patients.
    """
    inside = np.column_stack([group.rows for _, group in parted])
    mirrored = [
        any(parted[f][0] == parted[g][0] and np.array_equal(inside[:, f], ~inside[:, g]) for f in range(g))
        for g in range(len(parted))
    ]
    found = []
    for i, label in enumerate(labels):
        smaller = _smaller(truth[:, i], inside, bootstrap)
        for metric, values in _values(truth[:, i], scores[:, i], thresholds[i]).items():
            counted = np.flatnonzero(~np.isnan(values))
            values, patient = values[counted], bootstrap.index[counted]
            for g, (column, group) in enumerate(parted):
                rows = inside[counted, g]
                own, other = (_side(values[side], patient[side], bootstrap.size) for side in (rows, ~rows))
                few = smaller[g] if metric == CALIBRATION else min(own.patients, other.patients)
                difference, p = _difference(metric, values, rows, patient, own, other, few)
                found.append(
                    Gap(label, metric, column, group.name, own.cases, own.patients, own.mean, other.mean, difference, p,
                        mirrored=mirrored[g])
                )  # fmt: skip
    return _adjusted(found)


def worst_groups(found: Sequence[Gap]) -> list[Gap]:
    """Return, by label, metric and column, the group that is worst off, where it is shown to be; else none of these."""
    worst: dict[tuple[str, str, str], Gap] = {}
    for gap in found:
        place = (gap.label, gap.metric, gap.column)
        if not np.isnan(gap.value) and (place not in worst or _badness(gap) > _badness(worst[place])):
            worst[place] = gap
    return [gap for gap in worst.values() if gap.shown and gap.worse]


def _badness(gap: Gap) -> float:
    return {OPPORTUNITY: -gap.value, ODDS: gap.value, CALIBRATION: abs(gap.value)}[gap.metric]


def _values(truth: np.ndarray, score: np.ndarray, threshold: float) -> dict[str, np.ndarray]:
    """Return what each metric is the mean of: (N,) by name, NaN where a case does not count."""
    predicted = (score >= threshold).astype(np.float64)
    found = {CALIBRATION: score - truth}
    if np.isnan(threshold):
        return found
    return {OPPORTUNITY: np.where(truth == 1, predicted, np.nan), ODDS: np.where(truth == 0, predicted, np.nan)} | found


def _smaller(truth: np.ndarray, inside: np.ndarray, bootstrap: PatientBootstrap) -> np.ndarray:
    """Return of each group the patients in the smallest class of both sides, (G,)."""
    sides = [bootstrap.smaller_class(np.where(rows, truth[:, None], np.nan)) for rows in (inside, ~inside)]
    return np.minimum(*sides)


@dataclass(frozen=True)
class _Side:
    """A mean with the effective number of cases that it is worth."""

    cases: int
    patients: int
    mean: float
    size: float
    influence: np.ndarray


def _side(values: np.ndarray, patient: np.ndarray, size: int) -> _Side:
    """Return the mean of (n,) values of patients that are numbered from 0 to `size` - 1."""
    cases, patients = len(values), int(np.count_nonzero(np.bincount(patient, minlength=1)))
    mean = float(values.mean()) if cases else float("nan")
    influence = np.bincount(patient, weights=values - mean, minlength=size) / max(cases, 1)
    variance = (influence**2).sum()
    worth = mean * (1 - mean) / variance if variance > 0 else patients
    return _Side(cases, patients, mean, float(min(cases, worth)), influence)


def _difference(
    metric: str, values: np.ndarray, rows: np.ndarray, patient: np.ndarray, own: _Side, other: _Side, few: int
) -> tuple[Estimate, float]:
    """Return a group's mean minus the others', with its p; neither interval nor p where a side has too few patients.

    `values`, `rows` (of the group) and `patient` are of the n cases that count.
    """
    value, nan = own.mean - other.mean, float("nan")
    if np.isnan(value):
        return Estimate(nan, reason="no such case here or among all others"), nan
    if few < FEW:
        return Estimate(value, reason=too_few(int(few))), nan
    if metric == CALIBRATION:
        gap = mean_gaps(values, rows[:, None], patient, len(own.influence))
        (estimate,), p = differences(gap, np.array([few - 1]))
        return estimate, float(p[0])
    return _newcombe(own, other)


def _newcombe(own: _Side, other: _Side) -> tuple[Estimate, float]:
    """Return the difference of two rates with an interval and the p that belongs to it (MOVER)."""
    value = own.mean - other.mean
    shared = own.influence @ other.influence
    correlation = float(np.nan_to_num(ratio(shared, np.sqrt((own.influence**2).sum() * (other.influence**2).sum()))))
    (low, high), (other_low, other_high) = (wilson(side.mean * side.size, side.size) for side in (own, other))

    def half(one: float, two: float) -> float:
        return float(np.sqrt(max(0.0, one**2 + two**2 - 2 * correlation * one * two)))

    below, above = half(own.mean - low, other_high - other.mean), half(high - own.mean, other.mean - other_low)
    toward = below if value > 0 else above  # the half of the interval that 0 lies in
    z = abs(value) / toward * norm.ppf((1 + LEVEL) / 2) if toward > 0 else 0.0
    return Estimate(value, max(-1.0, value - below), min(1.0, value + above), method=METHOD), float(2 * norm.sf(z))


def _adjusted(found: list[Gap]) -> list[Gap]:
    """Return the gaps with p by Holm; a comparison that stands there twice counts once."""
    p = holm(np.array([float("nan") if gap.mirrored else gap.p for gap in found]))
    first = {(gap.label, gap.metric, gap.column): own for gap, own in zip(found, p) if not gap.mirrored}
    return [
        replace(gap, adjusted=float(first[gap.label, gap.metric, gap.column] if gap.mirrored else own))
        for gap, own in zip(found, p)
    ]
