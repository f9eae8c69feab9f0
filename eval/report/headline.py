"""The result of an evaluation in sentences."""

from collections.abc import Callable

import numpy as np

from ..statistics.classes import ClassResult
from ..statistics.intervals import Estimate
from ..statistics.results import ModelResult, Results
from .formats import interval, many, number, signed


def headline(found: Results, unit: str) -> list[str]:
    """Say the result in one sentence, and in one more for each model that the first is compared with."""
    first = found.models[0]
    sentences = (
        _auroc_sentences(first, unit) if first.classes is None else _class_sentences(first.name, first.classes, unit)
    )
    for other, comparison in found.comparisons.items():
        decided = comparison.classes
        what, gap, cases = (
            ("AUROC" if len(first.labels) == 1 else "macro AUROC", comparison.macro["auroc"], comparison.cases)
            if decided is None
            else ("accuracy", decided.accuracy, decided.cases)
        )
        if np.isnan(gap.value):
            sentences.append(f"{first.name} and {other} cannot be compared: {gap.reason}.")
            continue
        sentences.append(
            f"{first.name} minus {other}: {what} difference {signed(gap.value)}{_ci(gap, signed)} on the same "
            f"{many(cases, unit)}. {_verdict(gap, first.name, other)}"
        )
    return sentences


def _auroc_sentences(model: ModelResult, unit: str) -> list[str]:
    size = f"{many(len(model.table), unit)} of {many(model.patients, 'patient')}"
    score = model.macro["auroc"]
    if np.isnan(score.value):
        return [f"The AUROC of {model.name} is undefined on {size}: {score.reason}."]
    if len(model.labels) == 1:
        return [f"AUROC {number(score.value, 2)}{_ci(score)} for {model.labels[0].label} on {size}."]
    over = f"{model.defined} of {many(len(model.labels), 'finding')}"
    return [f"Macro AUROC {number(score.value, 2)}{_ci(score)} over {over} on {size}."]


def _class_sentences(model: str, found: ClassResult, unit: str) -> list[str]:
    size = f"{many(found.cases, unit)} of {many(found.patients, 'patient')}"
    score, strict = found.metrics["accuracy"], found.metrics["accuracy_failed_as_wrong"]
    if np.isnan(score.value):
        sentences = [f"The accuracy of {model} is undefined on {size}: {score.reason}."]
    else:
        sentences = [f"Accuracy {number(score.value, 2)}{_ci(score)} over {len(found.labels)} classes on {size}."]
    if found.failed:
        sentences.append(
            f"With {many(found.failed, f'failed {unit}')} counted as wrong: {number(strict.value, 2)}{_ci(strict)}."
        )
    return sentences


def _ci(estimate: Estimate, form: Callable[[float], str] | None = None) -> str:
    if np.isnan(estimate.low):
        return f" ({estimate.reason})" if estimate.reason else ""
    return f" (95 % CI {interval(estimate, 3, sign=True) if form else interval(estimate, 2)})"


def _verdict(gap: Estimate, first: str, other: str) -> str:
    if np.isnan(gap.low):
        return "There is no interval, so nothing can be said about the difference."
    if gap.low > 0 or gap.high < 0:
        better = first if gap.value > 0 else other
        return f"The interval excludes zero: {better} is better here than the choice of patients alone would explain."
    return "The interval includes zero: these cases do not show that either is better."
