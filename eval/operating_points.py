"""Thresholds: chosen on validation cases only, then carried to the cases that are evaluated.

A case is called positive when its score is at or above the threshold. A chosen threshold lies halfway between
the lowest score called positive and the next lower one, so that rounding a score in a file changes no call.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import roc_curve

from ..errors import UserError
from .intervals import Estimate, PatientBootstrap, percentile, proportions
from .metrics import RATE_REASONS, calls, confusion, confusion_cells, rates, reasons


@dataclass(frozen=True)
class OperatingPoint:
    """One label's threshold.

    Attributes:
        threshold: NaN where none could be chosen.
        rule: How it was chosen (`youden`, `sensitivity=0.90`, `0.5`, `given`).
        chosen_on: Split it was chosen on; empty for a fixed or given one.
        reason: Why there is none.
    """

    threshold: float
    rule: str
    chosen_on: str = ""
    reason: str = ""


def choose(truth: np.ndarray, scores: np.ndarray, rule: str = "youden", chosen_on: str = "val") -> list[OperatingPoint]:
    """One threshold per label from validation cases.

    Args:
        truth, scores: (N, L) of the validation cases.
        rule: `youden` (largest sensitivity + specificity, Youden 1950), `sensitivity=S` (the highest
            threshold that finds at least the share S of the positive cases), `specificity=S` (the lowest
            threshold that leaves at least the share S of the negative cases alone), or `0.5`.
        chosen_on: Name of the split, for the record.

    Raises:
        UserError: An unknown rule.
    """
    kind, level = _parse(rule)
    if kind == "fixed":
        return [OperatingPoint(level, rule)] * truth.shape[1]
    missing = [f"{reason} in {chosen_on}" if reason else "" for reason in reasons(truth)]
    return [
        OperatingPoint(float("nan"), rule, chosen_on, missing[i])
        if missing[i]
        else _choose_one(truth[:, i], scores[:, i], rule, chosen_on)
        for i in range(truth.shape[1])
    ]


def transfer(
    truth: np.ndarray, scores: np.ndarray, points: Sequence[OperatingPoint], bootstrap: PatientBootstrap
) -> list[dict[str, Estimate]]:
    """What the thresholds do on other cases: per label the rates of `metrics.rates`, each with its interval.

    Args:
        truth, scores: (N, L) of the evaluated cases.
        points: L operating points.
        bootstrap: The N cases' patients.
    """
    thresholds = np.array([point.threshold for point in points])
    called = calls(scores, thresholds)
    values = rates(confusion(truth, scores, thresholds))
    draws = _rate_draws(truth, called, bootstrap)
    found: list[dict[str, Estimate]] = [{} for _ in points]
    for name, hits in _hits(truth, called).items():
        why = [point.reason or RATE_REASONS[name] for point in points]
        for label, estimate in enumerate(proportions(hits, bootstrap, why)):
            found[label][name] = estimate
    for name in ("f1", "balanced_accuracy"):
        for label, point in enumerate(points):
            why = point.reason or RATE_REASONS[name]
            found[label][name] = percentile(float(values[name][label]), draws[name][:, label], why)
    return found


def _parse(rule: str) -> tuple[str, float]:
    if rule == "youden":
        return "youden", float("nan")
    if rule == "0.5":
        return "fixed", 0.5
    named = re.fullmatch(r"(sensitivity|specificity)=(0?\.\d+|1(?:\.0*)?)", rule)
    if named and float(named[2]) > 0:
        return named[1], float(named[2])
    raise UserError(
        f"threshold rule {rule!r}: use `youden`, `sensitivity=0.9`, `specificity=0.9` (any share up to 1) or `0.5`."
    )


def _choose_one(truth: np.ndarray, score: np.ndarray, rule: str, chosen_on: str) -> OperatingPoint:
    known = ~np.isnan(truth)
    false, true, cuts = roc_curve(truth[known], score[known], drop_intermediate=False)
    false, true, cuts = false[1:], true[1:], cuts[1:]  # the first point calls no case positive
    if len(cuts) == 1:
        return OperatingPoint(float("nan"), rule, chosen_on, f"all scores in {chosen_on} are equal")
    kind, level = _parse(rule)
    if kind == "youden":
        # Rounded, so that equal sums tie in spite of floating point; of equal ones the highest threshold is
        # taken.
        place = int(np.argmax(np.round(true - false, 12)))
    else:
        # Shares are compared with a whisker of slack: 9 of 10 must pass for 0.9.
        reached = np.flatnonzero(true >= level - 1e-12 if kind == "sensitivity" else 1 - false >= level - 1e-12)
        if len(reached) == 0:
            return OperatingPoint(float("nan"), rule, chosen_on, f"no threshold reaches {rule} in {chosen_on}")
        place = int(reached[0] if kind == "sensitivity" else reached[-1])
    below = cuts[place + 1] if place + 1 < len(cuts) else 0.0
    return OperatingPoint(float((cuts[place] + below) / 2), rule, chosen_on)


def _hits(truth: np.ndarray, called: np.ndarray) -> dict[str, np.ndarray]:
    """Each rate as a proportion: (N, L) of 1 (hit), 0 and NaN (does not count)."""
    valid = ~np.isnan(truth) & ~np.isnan(called)
    right = (truth == called).astype(np.float64)
    among = {
        "sensitivity": truth == 1,
        "specificity": truth == 0,
        "ppv": called == 1,
        "npv": called == 0,
        "accuracy": valid,
    }
    return {name: np.where(valid & which, right, np.nan) for name, which in among.items()}


def _rate_draws(truth: np.ndarray, called: np.ndarray, bootstrap: PatientBootstrap) -> dict[str, np.ndarray]:
    cells = confusion_cells(truth, called)
    sums = bootstrap.sums(np.concatenate(cells, axis=1))
    return rates(type(cells)(*np.split(sums, 4, axis=1)))
