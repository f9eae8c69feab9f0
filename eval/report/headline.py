"""The result of an evaluation in sentences."""

from collections.abc import Callable, Sequence

import numpy as np

from ..statistics.classes import ClassResult
from ..statistics.compare import Comparison
from ..statistics.intervals import Estimate
from ..statistics.reservations import LeftOut, left_out_words
from ..statistics.results import ModelResult, Results
from .formats import compared_p, interval, many, number, signed


def headline(found: Results, unit: str) -> list[str]:
    """Say the result in one sentence, and in one more for each model that the first is compared with."""
    first = found.models[0]
    several = len(found.models) > 1
    sentences = (
        _auroc_sentences(first, unit, several)
        if first.classes is None
        else _class_sentences(first.name, first.classes, unit, several)
    )
    for other in found.models[1:]:
        sentences += _worse_than_chance(other) if other.classes is None else []
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
        gap_words = f"{what} difference {signed(gap.value)}{_ci(gap, signed)} on the same {many(cases, unit)}"
        over = "" if decided is not None else _left_out(comparison.rare, len(comparison.labels))
        verdict = _verdict(comparison, first.name, other, len(found.comparisons))
        sentences.append(f"{first.name} minus {other}: {gap_words}{over}. {verdict}")
    return sentences


def _auroc_sentences(model: ModelResult, unit: str, several: bool) -> list[str]:
    size = f"{many(len(model.table), unit)} of {many(model.patients, 'patient')}"
    score = model.macro["auroc"]
    if np.isnan(score.value):
        return [f"The AUROC of {model.name} is undefined on {size}: {score.reason}."]
    whose = f"{model.name}: " if several else ""
    if len(model.labels) == 1:
        found = f"{whose}AUROC {number(score.value, 2)}{_ci(score)} for {model.labels[0].label} on {size}."
    else:
        over = f"{model.defined} of {many(len(model.labels), 'finding')}"
        out = left_out_words(model.left_out)
        found = (
            f"{whose}{'macro' if several else 'Macro'} AUROC {number(score.value, 2)}{_ci(score)} over {over} on {size}"
        )
        found += f"; {out}." if out else "."
    return [found, *_worse_than_chance(model)]


def _worse_than_chance(model: ModelResult) -> list[str]:
    """Remark on labels whose AUROC is below 0.5 by its interval: usually 0 and 1 of the label are confused."""
    worse = [row.label for row in model.labels if row.metrics["auroc"].high < 0.5]
    if not worse:
        return []
    names = ", ".join(worse)
    return [f"{model.name} is worse than chance for {names}: is the direction of the label or of the score reversed?"]


def _left_out(rare: Sequence[LeftOut], labels: int) -> str:
    words = left_out_words(rare)
    return f", over {labels - len(rare)} of {many(labels, 'finding')} ({words})" if words else ""


def _class_sentences(model: str, found: ClassResult, unit: str, several: bool) -> list[str]:
    size = f"{many(found.cases, unit)} of {many(found.patients, 'patient')}"
    whose = f"{model}: accuracy" if several else "Accuracy"
    score, strict = found.metrics["accuracy"], found.metrics["accuracy_failed_as_wrong"]
    if np.isnan(score.value):
        sentences = [f"The accuracy of {model} is undefined on {size}: {score.reason}."]
    else:
        sentences = [f"{whose} {number(score.value, 2)}{_ci(score)} over {len(found.labels)} classes on {size}."]
    if found.failed:
        sentences.append(
            f"With {many(found.failed, f'failed {unit}')} counted as wrong: {number(strict.value, 2)}{_ci(strict)}."
        )
    return sentences


def _ci(estimate: Estimate, form: Callable[[float], str] | None = None) -> str:
    if np.isnan(estimate.low):
        return f" ({estimate.reason})" if estimate.reason else ""
    return f" (95 % CI {interval(estimate, 3, sign=True) if form else interval(estimate, 2)})"


def _verdict(found: Comparison, first: str, other: str, pairs: int) -> str:
    verdict = found.verdict
    among = f" (corrected for {pairs} comparisons by Holm: p {compared_p(found.p_models)})" if pairs > 1 else ""
    if verdict == "identical":
        return f"{first} and {other} are identical: they give every case the same scores."
    if verdict == "none":
        return "There is no interval, so nothing can be said about the difference."
    if verdict == "open":
        gap = found.macro["auroc"] if found.classes is None else found.classes.accuracy
        if gap.low > 0 or gap.high < 0:
            why = among or f" (p {compared_p(found.p_models)})"
            return f"The interval excludes zero, but the test does not show that either is better{why}."
        return "The interval includes zero: these cases do not show that either is better."
    better = first if verdict == "first" else other
    return (
        f"The interval excludes zero{among}: {better} is better here than the choice of patients alone would explain."
    )
