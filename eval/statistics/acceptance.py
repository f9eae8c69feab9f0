"""Whether predictions meet what a hospital asked for before it looked: met, not met, or not enough cases.

Met: the one-sided lower bound of every metric, in all cases and in every named group, reaches its minimum less the
margin. All of them must, so that no correction is needed (intersection-union test; Berger 1982, Technometrics 24:295).
Not met: an upper bound lies below; as one of K is enough for that, each is held at 1 - (1 - confidence) / K. Failed
cases count as wrong. Between the two, cases are too few, and it is said how many more are needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ...core.errors import UserError
from ...datasets.manifest.tables import Predictions, nearest
from ..target import Target
from .exact import POWER, cases_to_show, effective_cases, exact_bounds
from .groups import groups, refuse_columns, texts
from .metrics import predictive_values

MET, NOT_MET, TOO_FEW = "met", "not met", "not enough cases"
_RATES = {"sensitivity": 1, "specificity": 0}
_FACTORS = 1000.0  # up to which more cases of the same kind are looked for


@dataclass(frozen=True)
class Check:
    """One metric in all cases or in one group.

    Attributes:
        metric: `sensitivity`, `specificity`, `ppv` or `npv`.
        group: `sex = F`; empty for all cases.
        minimum, floor: What is asked for, and that less the margin.
        hits, cases, patients: Right ones of those that count, failed ones included; of a predictive value all cases.
        failed: How many of the cases failed.
        value, low: The metric with its one-sided lower bound; NaN without cases.
        high: Upper bound, at the confidence that is corrected for the number of checks.
        verdict: `met`, `not met` or `not enough cases`.
        needed: Further cases of this kind (positive ones for a sensitivity) that are expected to show it; 0 where it
            is met; None where no number would.
        needed_in_all: So many further cases of any kind hold these, at the frequency of these cases; None where not
            known.
    """

    metric: str
    group: str
    minimum: float
    floor: float
    hits: int | None
    cases: int
    patients: int
    failed: int
    value: float
    low: float
    high: float
    verdict: str
    needed: int | None
    needed_in_all: int | None


@dataclass(frozen=True)
class Acceptance:
    """The verdict.

    Attributes:
        verdict: Over all checks.
        checks: All cases first, then the groups.
        label: The finding.
        threshold: At which it is predicted.
        source: Where that comes from, in words.
        requested, failed, unknown: Cases of the split, those that failed, and those whose truth is not known.
    """

    verdict: str
    checks: list[Check]
    label: str
    threshold: float
    source: str
    requested: int
    failed: int
    unknown: int


def acceptance(
    table: Predictions, target: Target, threshold: float, source: str, columns: pd.DataFrame | None = None
) -> Acceptance:
    """Hold predictions against a target.

    Args:
        table: All requested cases.
        target: What is asked for.
        threshold: At or above which a case is predicted positive.
        source: Where it comes from, in words.
        columns: What is known of the cases, by id (`groups.manifest_columns`), where the target names subgroups.

    Raises:
        UserError: The finding, a column or a group is not there.
    """
    label = finding(table, target)
    asked = table.rows(target.split)
    if not len(asked):
        raise UserError(f"{table.path}: no case in the split {target.split!r} that the target names.")
    place = table.labels.index(label)
    truth, scores = asked.truth()[:, place], asked.scores()[:, place]
    failed = (asked.table["status"] == "failed").to_numpy()
    patient = pd.factorize(asked.table["patient"])[0]
    parts = [("", np.ones(len(asked), dtype=bool)), *_parts(asked, target, columns)]
    count = len(parts) * len(target.minimum)
    known = ~np.isnan(truth)
    checks = [
        _check(metric, name, rows & known, truth, scores >= threshold, failed, patient, target, count)
        for name, rows in parts
        for metric in target.minimum
    ]
    return Acceptance(
        verdict=_verdict([check.verdict for check in checks]),
        checks=checks,
        label=label,
        threshold=threshold,
        source=source,
        requested=len(asked),
        failed=int(failed.sum()),
        unknown=int(np.isnan(truth).sum()),
    )


def finding(table: Predictions, target: Target) -> str:
    """Return the label that a target is about.

    Raises:
        UserError: It is not there, or the target names none of several.
    """
    if target.finding:
        if target.finding not in table.labels:
            raise UserError(f"{table.path}: no finding {target.finding!r}{nearest(target.finding, table.labels)}.")
        return target.finding
    if len(table.labels) > 1:
        raise UserError(f"{table.path}: several findings ({', '.join(table.labels)}): name one, `finding:`.")
    return table.labels[0]


def _verdict(verdicts: Sequence[str]) -> str:
    return NOT_MET if NOT_MET in verdicts else MET if set(verdicts) == {MET} else TOO_FEW


def _parts(asked: Predictions, target: Target, columns: pd.DataFrame | None) -> list[tuple[str, np.ndarray]]:
    """Return the groups that the target names: name and rows; one that has no case is empty."""
    if not target.subgroups:
        return []
    if columns is None:
        raise UserError("the target names subgroups: give the manifest that has these columns, --data.")
    refuse_columns(columns, list(target.subgroups))
    known = columns[list(target.subgroups)].reindex(asked.table["id"]).reset_index(drop=True)
    if known.isna().all(axis=None):
        raise UserError(f"{asked.path}: none of its cases is in the manifest. Name the manifest that was predicted.")
    found = []
    for column, wanted in target.subgroups.items():
        cells = texts(known[column])
        own = {group.name: group.rows for group in groups(column, cells) if not (cells[group.rows] == "").all()}
        everywhere = {group.name for group in groups(column, texts(columns[column]))}
        for name in wanted or own:
            if name not in own and name not in everywhere:
                hint = nearest(name, everywhere) or f": it has {', '.join(sorted(everywhere))}"
                raise UserError(f"subgroups: no group {name!r} in the column {column!r}{hint}.")
            found.append((f"{column} = {name}", own.get(name, np.zeros(len(asked), dtype=bool))))
    return found


def _check(
    metric: str, group: str, rows: np.ndarray, truth: np.ndarray, predicted: np.ndarray, failed: np.ndarray,
    patient: np.ndarray, target: Target, count: int,
) -> Check:  # fmt: skip
    """Check one metric among the cases of `rows`, one of so many checks."""
    strict = 1 - (1 - target.confidence) / count
    rates = {
        name: _Rate.of(rows & (truth == one), (predicted == one) & ~failed, patient) for name, one in _RATES.items()
    }
    if metric in rates:
        own = rates[metric]
        value, low, high = own.share, own.bounds(target.confidence)[0], own.bounds(strict)[1]
        counted, hits = rows & (truth == _RATES[metric]), own.hits
        needed = own.needed(target.floor(metric), target.confidence)
    else:
        value, low, high = _predictive(metric, rates, target, 1.0, target.confidence, strict)
        counted, hits = rows, None
        needed = _factor(metric, rates, target, int(rows.sum()))
    floor = target.floor(metric)
    verdict = TOO_FEW if np.isnan(value) else MET if low >= floor else NOT_MET if high < floor else TOO_FEW
    needed = 0 if verdict == MET else needed
    whole = None if needed is None or not counted.any() else int(np.ceil(needed * rows.sum() / counted.sum()))
    return Check(
        metric=metric,
        group=group,
        minimum=target.minimum[metric],
        floor=floor,
        hits=hits,
        cases=int(counted.sum()),
        patients=len(np.unique(patient[counted])),
        failed=int((counted & failed).sum()),
        value=value,
        low=low,
        high=high,
        verdict=verdict,
        needed=needed,
        needed_in_all=whole,
    )


@dataclass(frozen=True)
class _Rate:
    """Right cases among those that count, and as how many independent ones these count."""

    hits: int
    cases: int
    right: np.ndarray
    patient: np.ndarray

    @classmethod
    def of(cls, counted: np.ndarray, right: np.ndarray, patient: np.ndarray) -> "_Rate":
        own = right[counted]
        return cls(int(own.sum()), len(own), own, pd.factorize(patient[counted])[0])

    @property
    def share(self) -> float:
        return self.hits / self.cases if self.cases else float("nan")

    def bounds(self, confidence: float, times: float = 1.0) -> tuple[float, float]:
        """Return both one-sided bounds, had there been so many times these cases."""
        if not self.cases:
            return 0.0, 1.0
        effective = times * effective_cases(self.right, self.patient, confidence)
        return exact_bounds(self.share * effective, effective, confidence)

    def needed(self, floor: float, confidence: float) -> int | None:
        """Return how many further cases are expected to show the floor, at the rate of these (four times in five)."""
        if not self.cases:
            return cases_to_show((1 + floor) / 2, floor, confidence)  # a rate halfway between the floor and 1
        whole = cases_to_show(self.share, floor, confidence, POWER)
        if whole is None:
            return None
        effective = effective_cases(self.right, self.patient, confidence)
        return max(1, int(np.ceil((whole - effective) * self.cases / effective)))


def _predictive(
    metric: str, rates: dict[str, _Rate], target: Target, times: float, confidence: float, strict: float
) -> tuple[float, float, float]:
    """Return a predictive value at the stated prevalence with its bounds, from those of both rates.

    Each rate's bound holds at half the error, so that both hold together (Bonferroni); a predictive value rises with
    both.
    """
    assert target.prevalence is not None, "a target with a predictive value has a prevalence"
    place = ("ppv", "npv").index(metric)
    sure, surer = ((1 + own) / 2 for own in (confidence, strict))
    sensitivity, specificity = (
        np.array([rate.share, rate.bounds(sure, times)[0], rate.bounds(surer, times)[1]])
        for rate in (rates["sensitivity"], rates["specificity"])
    )
    values = predictive_values(sensitivity, specificity, np.full(3, target.prevalence))[place]
    value, low, high = (float(own) for own in values)
    return value, 0.0 if np.isnan(low) else low, 1.0 if np.isnan(high) else high


def _factor(metric: str, rates: dict[str, _Rate], target: Target, cases: int) -> int | None:
    """Return how many further cases like these would lift the lower bound of a predictive value to its floor."""

    def reached(times: float) -> bool:
        return _predictive(metric, rates, target, times, target.confidence, target.confidence)[1] >= target.floor(
            metric
        )

    if not cases or not reached(_FACTORS):
        return None
    low, high = 1.0, _FACTORS
    while high - low > 1e-3 * low:
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return max(1, int(np.ceil((high - 1) * cases)))
