"""The result of numbers, grades and times in sentences."""

import numpy as np

from ...datasets.manifest.tables import Survival
from ..report.formats import compared_p, many, number
from ..statistics.intervals import NO_INTERVAL, Estimate
from .results import TargetComparison, TargetModel, TargetResult, TargetResults


def target_headline(found: TargetResults, unit: str) -> list[str]:
    """Say the result of the first model target by target, what failed, and how it compares with each other one."""
    first, several = found.models[0], len(found.models) > 1
    sentences = [_result(first.name if several else "", own, unit) for own in first.targets]
    sentences += [_failed(model, several, unit) for model in found.models if len(model.failed)]
    sentences += [_compared(first, own, unit, len(found.comparisons)) for own in found.comparisons]
    return sentences


def digits_of(own: TargetResult, metric: str) -> int:
    """Return how many digits a metric is shown with: those of a number's own unit by how far the truth is spread."""
    if metric not in ("mae", "rmse", "bias", "limit_low", "limit_high") or len(own.truth) < 2:
        return 3
    spread = own.truth[:, 0].std()
    return int(np.clip(2 - np.floor(np.log10(spread)), 0, 6)) if spread > 0 else 3


def with_interval(estimate: Estimate, digits: int) -> str:
    """Return `0.874 (95 % CI 0.84 to 0.90)`, or why there is no value or no interval."""
    if np.isnan(estimate.value):
        return f"undefined ({estimate.reason})"
    text = number(estimate.value, digits)
    if np.isnan(estimate.low):
        reason = "" if estimate.reason.startswith(NO_INTERVAL) else estimate.reason
        return f"{text} ({reason})" if reason else text
    return f"{text} (95 % CI {number(estimate.low, digits)} to {number(estimate.high, digits)})"


def _result(model: str, own: TargetResult, unit: str) -> str:
    metrics = [
        f"{_inside(own.analysis.name(key))} {with_interval(own.metrics[key], digits_of(own, key))}"
        for key in own.analysis.main
    ]
    size = f"{many(len(own.table), unit)} of {many(own.patients, 'patient')}"
    if isinstance(own.target, Survival):
        size += f", {many(int((own.truth[:, 1] == 1).sum()), 'event')}"
    whose = f"{model}, {own.target.name}" if model else own.target.name
    inside = f" (in {own.target.unit})" if own.target.unit and not isinstance(own.target, Survival) else ""
    return f"{whose}{inside}: {'; '.join(metrics)}; on {size}."


def _inside(name: str) -> str:
    """Return a metric's name within a sentence; names of people and abbreviations keep their capitals."""
    return name[0].lower() + name[1:] if name.startswith(("Mean", "Root", "Weighted", "Integrated")) else name


def _failed(model: TargetModel, several: bool, unit: str) -> str:
    whose = f"{model.name}: " if several else ""
    return f"{whose}{len(model.failed):,} of {many(model.requested, f'requested {unit}')} failed and are in no metric."


def _compared(first: TargetModel, own: TargetComparison, unit: str, pairs: int) -> str:
    what = next(each.analysis for each in first.targets if each.target.name == own.target)
    result = next(each for each in first.targets if each.target.name == own.target)
    main = what.main[0]
    gap = own.differences[main]
    head = f"{own.first} minus {own.second}, {own.target}: {_inside(what.name(main))} "
    if np.isnan(gap.value):
        return f"{head}cannot be compared: {gap.reason}."
    digits = digits_of(result, main)
    left = f" ({own.left_out:,} left out)" if own.left_out else ""
    said = f"{head}{with_interval(gap, digits)} on the same {many(own.cases, unit)}{left}."
    if np.isnan(gap.low):
        return f"{said} There is no interval, so nothing can be said about the difference."
    among = f" (p {compared_p(own.adjusted)}{', corrected by Holm' if pairs > 1 else ''})"
    if gap.low <= 0 <= gap.high or own.adjusted >= 0.05:
        return f"{said} These cases do not show that either is better{among}."
    better = own.first if (gap.value > 0) == what.higher else own.second
    return f"{said} {better} is better here than the choice of patients alone would explain{among}."
