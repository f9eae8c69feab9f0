"""The result of an evaluation in sentences."""

from collections.abc import Callable, Sequence

import numpy as np

from ..statistics.classes import ClassResult, positive_class
from ..statistics.compare import Comparison
from ..statistics.intervals import Estimate
from ..statistics.reservations import LeftOut
from ..statistics.reservations import left_out_words as rare_words
from ..statistics.results import LabelResult, ModelResult, Results
from .failure_words import failure_sentences, left_out_words
from .formats import compared_p, interval, many, number, signed
from .margin_words import margin_sentence
from .matched_words import matched_sentences

PAIR = ("sensitivity", "specificity")


def headline(found: Results, unit: str) -> list[str]:
    """Say the result in a few sentences, and in one more for each model that the first is compared with.

    The first entry holds what must not be parted: the main metric, and how many of the requested cases it is of.
    """
    first = found.models[0]
    row, several = main_label(first), len(found.models) > 1
    if first.classes is not None and row is None:
        sentences = _class_sentences(first.name, first.classes, unit, several)
    else:
        sentences = _auroc_sentences(first, row, unit, several)
    lost, *more = failure_sentences(first, row) or [""]
    sentences[0] = f"{sentences[0]} {lost}".strip()
    sentences += more
    models = {model.name: model for model in found.models}
    for model in found.models[1:]:
        sentences += [] if model.classes is not None and main_label(model) is None else _worse_than_chance(model)
    for other, comparison in found.comparisons.items():
        decided = comparison.classes if row is None else None
        what, gap, cases = (
            ("AUROC" if row is not None else "macro AUROC", comparison.macro["auroc"], comparison.cases)
            if decided is None
            else ("accuracy", decided.accuracy, decided.cases)
        )
        if np.isnan(gap.value):
            sentences.append(f"{first.name} and {other} cannot be compared: {gap.reason}.")
            continue
        left_out = left_out_words(first.name, models[other], main_label(models[other]), comparison)
        over = "" if decided is not None or row is not None else _left_out(comparison.rare, len(comparison.labels))
        gap_words = f"{what} difference {signed(gap.value)}{_ci(gap, signed)} on the same {many(cases, unit)}"
        verdict = _verdict(comparison, first.name, other, len(found.comparisons))
        sentences.append(f"{first.name} minus {other}: {gap_words}{left_out}{over}. {verdict}")
    sentences += matched_sentences(found, None if row is None else row.label)
    sentences += [margin_sentence(first.name, other, own) for other, own in found.margins.items()]
    return sentences


def main_label(model: ModelResult) -> LabelResult | None:
    """Return the label that the result is about: the only one, or of two exclusive classes the one looked for."""
    if len(model.labels) == 1:
        return model.labels[0]
    if model.classes is not None and len(model.labels) == 2:
        return model.labels[positive_class(model.classes.labels)]
    return None


def _auroc_sentences(model: ModelResult, row: LabelResult | None, unit: str, several: bool) -> list[str]:
    size = f"{many(len(model.table), unit)} of {many(model.patients, 'patient')}"
    score = model.macro["auroc"] if row is None or model.classes is None else row.metrics["auroc"]
    if np.isnan(score.value):
        what = f" for {row.label}" if row is not None else ""
        return [f"The AUROC of {model.name}{what} is undefined on {size}: {score.reason}."]
    if row is None:
        over, out = f"{model.defined} of {many(len(model.labels), 'finding')}", rare_words(model.left_out)
        whose = f"{model.name}: macro" if several else "Macro"
        words = f"{whose} AUROC {number(score.value, 2)}{_ci(score)} over {over} on {size}{f'; {out}' if out else ''}."
        return [words, *_worse_than_chance(model)]
    what = row.label
    if model.classes is not None:
        other = next(label for label in model.classes.labels if label != row.label)
        what = f"{row.label} against {other}"
    whose = f"{model.name}: " if several else ""
    sentences = [f"{whose}AUROC {number(score.value, 2)}{_ci(score)} for {what} on {size}."]
    sentences += _worse_than_chance(model)
    if not np.isnan(row.point.threshold):
        rates = " and ".join(f"{name} {number(row.metrics[name].value, 2)}{_ci(row.metrics[name])}" for name in PAIR)
        source = (
            "chosen on these same cases, so that it looks better than it is" if model.optimistic else row.point.source
        )
        sentences.append(f"At the threshold {row.point.threshold:.3g}, {source}: {rates}.")
    if model.classes is not None:
        sentences.append(_decisions(row, model.classes))
    return sentences


def _decisions(row: LabelResult, found: ClassResult) -> str:
    """Say what the decisions of two classes are worth, beside always saying the more frequent one."""
    place = found.labels.index(row.label)
    rates = " and ".join(f"{name} {number(found.per_class[name][place].value, 2)}" for name in PAIR)
    who = "The decisions of the table" if found.ruled else "The larger of both scores"
    accuracy = found.metrics["accuracy"]
    return f"{who}: {rates}; accuracy {number(accuracy.value)}{_ci(accuracy, digits=3)}, {_baseline(found)}."


def _baseline(found: ClassResult) -> str:
    """Say the accuracy of always deciding for the most frequent class, and whether the model's is above it."""
    accuracy, base = found.metrics["accuracy"], found.metrics["baseline_accuracy"]
    words = f"always saying {found.frequent}: {number(base.value)}"
    low = accuracy.low if not np.isnan(accuracy.low) else accuracy.value
    return words if low > base.value else f"{words}, so these cases do not show that it is better than that"


def _worse_than_chance(model: ModelResult) -> list[str]:
    """Remark on labels whose AUROC is below 0.5 by its interval: usually 0 and 1 of the label are confused."""
    worse = [row.label for row in model.labels if row.metrics["auroc"].high < 0.5]
    if not worse:
        return []
    names = ", ".join(worse)
    return [f"{model.name} is worse than chance for {names}: is the direction of the label or of the score reversed?"]


def _left_out(rare: Sequence[LeftOut], labels: int) -> str:
    words = rare_words(rare)
    return f", over {labels - len(rare)} of {many(labels, 'finding')} ({words})" if words else ""


def _class_sentences(model: str, found: ClassResult, unit: str, several: bool) -> list[str]:
    size = f"{many(found.cases, unit)} of {many(found.patients, 'patient')}"
    whose = f"{model}: accuracy" if several else "Accuracy"
    score, strict = found.metrics["accuracy"], found.metrics["accuracy_failed_as_wrong"]
    if np.isnan(score.value):
        sentences = [f"The accuracy of {model} is undefined on {size}: {score.reason}."]
    else:
        base = _baseline(found)
        over = f"over {len(found.labels)} classes on {size}. {base[0].upper()}{base[1:]}"
        sentences = [f"{whose} {number(score.value, 2)}{_ci(score)} {over}."]
    if found.failed:
        sentences.append(
            f"With {many(found.failed, f'failed {unit}')} counted as wrong: {number(strict.value, 2)}{_ci(strict)}."
        )
    return sentences


def _ci(estimate: Estimate, form: Callable[[float], str] | None = None, digits: int = 2) -> str:
    if np.isnan(estimate.low):
        return f" ({estimate.reason})" if estimate.reason else ""
    bounds = interval(estimate, 3, sign=True) if form else interval(estimate, digits)
    reserved = estimate.reason.partition(":")[0]
    return f" (95 % CI {bounds}{f'; {reserved}' if reserved else ''})"


def _verdict(found: Comparison, first: str, other: str, pairs: int) -> str:
    verdict = found.verdict
    among = f" (corrected for {pairs} comparisons by Holm: p {compared_p(found.p_models)})" if pairs > 1 else ""
    if verdict == "identical":
        return f"{first} and {other} are identical: they give every case the same scores."
    if verdict == "none":
        return "There is no interval, so nothing can be said about the difference."
    if verdict == "open":
        gap = found.main
        if gap.low > 0 or gap.high < 0:
            why = among or f" (p {compared_p(found.p_models)})"
            return f"The interval excludes zero, but the test does not show that either is better{why}."
        return "The interval includes zero: these cases do not show that either is better."
    better = first if verdict == "first" else other
    return (
        f"The interval excludes zero{among}: {better} is better here than the choice of patients alone would explain."
    )
