"""Cases parted by what was predicted of them: Kaplan-Meier by risk, and calibration at a time."""

from typing import NamedTuple

import numpy as np

from ..statistics.intervals import Estimate, estimates
from ..statistics.resampling import PatientBootstrap, Reweighted
from ..statistics.scaled_intervals import SURVIVAL, on_scale
from .kaplan_meier import kaplan_meier

RISKS = ("low risk", "middle risk", "high risk")  # thirds of the evaluated cases
PARTS = 5  # of the cases, by predicted probability


class RiskGroup(NamedTuple):
    """Cases of alike predictions.

    Attributes:
        name: For people.
        cases, events: How many.
        times, values: (U,) steps of Kaplan-Meier's estimate.
        predicted: Mean predicted event-free probability at the time.
        observed: Kaplan-Meier's at the same, with an interval by patient.
    """

    name: str
    cases: int
    events: int
    times: np.ndarray
    values: np.ndarray
    predicted: float
    observed: Estimate


class Groups(NamedTuple):
    """What was observed of cases by what was predicted.

    Attributes:
        when: The time of `predicted` and `observed`; NaN where none can be evaluated.
        risk: Thirds by risk.
        free: Fifths by predicted probability at `when`.
    """

    when: float
    risk: list[RiskGroup]
    free: list[RiskGroup]


def groups(
    truth: np.ndarray, risk: np.ndarray, free: np.ndarray, times: np.ndarray, bootstrap: PatientBootstrap
) -> Groups:
    """Part cases by risk and by predicted probability at the middle one of the times.

    Args:
        truth: (N, 2) known times and events.
        risk: (N,).
        free: (N, J) event-free probabilities at the times.
        times: (J,).
        bootstrap: Patients of the cases.
    """
    if not len(truth):
        return Groups(float("nan"), [], [])
    middle = len(times) // 2
    when = float(times[middle]) if len(times) else float("nan")
    at = free[:, middle] if len(times) else np.full(len(truth), np.nan)
    by_risk = _parted(risk, len(RISKS))
    named = [RISKS[part] for part in np.unique(by_risk)] if len(np.unique(by_risk)) > 1 else ["all cases"]
    found = _groups(truth, at, by_risk, named, when, bootstrap)
    if not len(times):
        return Groups(when, found, [])
    by_free = _parted(at, PARTS)
    shown = [f"part {place + 1}" for place in range(len(np.unique(by_free)))]
    return Groups(when, found, _groups(truth, at, by_free, shown, when, bootstrap))


def _parted(values: np.ndarray, parts: int) -> np.ndarray:
    """Return (N,) part of each value; equal values are in one part."""
    cuts = np.quantile(values, np.arange(1, parts) / parts)
    return np.searchsorted(cuts, values, side="left")


def _groups(
    truth: np.ndarray, predicted: np.ndarray, part: np.ndarray, names: list[str], when: float,
    bootstrap: PatientBootstrap,
) -> list[RiskGroup]:  # fmt: skip
    time, event = truth[:, 0], truth[:, 1] == 1
    rows = [part == own for own in np.unique(part)]
    at = np.array([when])

    def of(weights: Reweighted) -> dict[str, np.ndarray]:
        blocks = []
        for block in weights.counts():
            own = block[weights.index].astype(np.float64)
            blocks.append(np.concatenate([_at(time[row], event[row], own[row], at) for row in rows]).T)
        return {"all": np.concatenate(blocks)}

    curves = [kaplan_meier(time[row], event[row], np.ones((row.sum(), 1))) for row in rows]
    values = np.array([_at(time[row], event[row], np.ones((row.sum(), 1)), at)[0, 0] for row in rows])
    few = [bootstrap.having(row) for row in rows]
    drawn = bootstrap.drawn(of)["all"]
    observed = estimates(values, drawn, ["no time can be evaluated"] * len(rows), few)
    if drawn.left_out is None:  # else BCa was asked for
        observed = [on_scale(*each, SURVIVAL) for each in zip(observed, drawn.resampled.T, few)]
    return [
        RiskGroup(
            name, int(row.sum()), int(event[row].sum()), curve.times, curve.values[:, 0],
            float(predicted[row].mean()), own,
        )
        for name, row, curve, own in zip(names, rows, curves, observed, strict=True)
    ]  # fmt: skip


def _at(time: np.ndarray, event: np.ndarray, weights: np.ndarray, when: np.ndarray) -> np.ndarray:
    """Return (1, R) event-free probabilities at a time, NaN where nobody is drawn, or nobody is seen so long."""
    if np.isnan(when[0]):
        return np.full((1, weights.shape[1]), np.nan)
    curve = kaplan_meier(time, event, weights)
    seen = curve.at_risk[0] > 0
    return np.where(seen, curve.at(when), np.nan)
