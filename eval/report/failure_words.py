"""What failed cases mean for the result, in sentences: how many, with which truth, and what they could change."""

from collections.abc import Sequence

import numpy as np

from ..statistics.compare import Comparison
from ..statistics.failures import AS_WRONG, BEST, WORST, Flow
from ..statistics.results import LabelResult, ModelResult
from .formats import interval, many, number

_LISTED = 3  # classes or findings named


def failure_sentences(model: ModelResult, row: LabelResult | None) -> list[str]:
    """Say how many of the requested cases failed, by truth, and what counting them changes; empty where none did.

    Args:
        model: With all its labels.
        row: The label that the headline is about; None where it is about several.
    """
    failed = len(model.failed)
    if not failed:
        return []
    said = [f"{len(model.table):,} of {model.requested:,} requested; {failed:,} failed, {_by_truth(model, row)}."]
    if row is not None:
        said += [_as_wrong(row), _auroc_bounds(row)]
    elif model.classes is None:
        said.append(_macro_bounds(model))
    return [sentence for sentence in said if sentence]


def left_out_words(first: str, other: ModelResult, row: LabelResult | None, comparison: Comparison) -> str:
    """Say how many cases a comparison leaves out, by whom, and of the other model with which truth.

    Returns:
        ` of 390 requested, those that both scored (39 failed in a; 11 failed in b, all positive)`; empty for none.
    """
    if not comparison.left_out:
        return ""
    asked, parts = comparison.cases + comparison.left_out, []
    if comparison.failed_first:
        parts.append(f"{comparison.failed_first:,} failed in {first}")
    if comparison.failed_second:
        parts.append(f"{comparison.failed_second:,} failed in {other.name}, {_by_truth(other, row)}")
    return f" of {asked:,} requested, those that both scored ({'; '.join(parts)})"


def _by_truth(model: ModelResult, row: LabelResult | None) -> str:
    if model.classes is not None:
        return _by_class(model)
    if row is not None and row.flow is not None:
        return _of_label(row.flow)
    positive = [(row.flow.failed_positive, row.label) for row in model.labels if row.flow and row.flow.failed_positive]
    if not positive:
        return "none with a finding that is known to be positive"
    shown = sorted(positive, key=lambda pair: -pair[0])
    failed = len(model.failed)
    listed = ", ".join(f"{'all' if count == failed else f'{count:,}'} positive for {label}"
                       for count, label in shown[:_LISTED])  # fmt: skip
    return listed + (f" and some for {len(shown) - _LISTED} more findings" if len(shown) > _LISTED else "")


def _of_label(flow: Flow) -> str:
    """Return `all positive (32 % of the positive cases)`, or `30 positive (10 %), 9 negative (3 %)`."""
    parts = [
        (flow.failed_positive, "positive", flow.failed_positive + flow.positive),
        (flow.failed_negative, "negative", flow.failed_negative + flow.negative),
        (flow.failed_unknown, "of unknown truth", 0),
    ]
    kinds = [part for part in parts if part[0]]
    if len(kinds) == 1:
        count, words, among = kinds[0]
        return f"all {words}" + (f" ({_share(count, among)} of the {words} cases)" if among else "")
    return ", ".join(f"{count:,} {words}" + (f" ({_share(count, among)} of these)" if among else "")
                     for count, words, among in kinds)  # fmt: skip


def _by_class(model: ModelResult) -> str:
    classes = model.classes
    assert classes is not None, "only of exclusive classes"
    counts = classes.failed_truth
    order = [place for place in np.argsort(-counts, kind="stable") if counts[place]]
    unknown = len(model.failed) - int(counts.sum())
    if len(order) == 1 and not unknown:
        place = order[0]
        among = int(counts[place] + classes.confusion[place].sum())
        return f"all {classes.labels[place]} ({_share(int(counts[place]), among)} of that class)"
    parts = [f"{counts[place]:,} {classes.labels[place]}" for place in order[:_LISTED]]
    if len(order) > _LISTED:
        parts.append(f"{int(counts[order[_LISTED:]].sum()):,} of other classes")
    return ", ".join([*parts, *([f"{unknown:,} of unknown truth"] if unknown else [])])


def _as_wrong(row: LabelResult) -> str:
    """Say sensitivity and specificity where failed cases count as wrong, beside those of the scored cases."""
    parts = []
    for name in ("sensitivity", "specificity"):
        own, strict = row.metrics[name], row.metrics.get(name + AS_WRONG)
        if strict is not None and not np.isnan(strict.value):
            between = f" ({interval(strict, 2)})" if interval(strict, 2) else ""
            parts.append(f"{name} {number(strict.value, 2)}{between} in place of {number(own.value, 2)}")
    return f"With failed cases counted as wrong: {', '.join(parts)}." if parts else ""


def _auroc_bounds(row: LabelResult) -> str:
    worst, best = (row.metrics.get(f"auroc{ending}") for ending in (WORST, BEST))
    if worst is None or best is None or np.isnan(worst.value):
        return ""
    return (
        f"Whatever scores they had been given, the AUROC of all would lie between {number(worst.value, 2)} and "
        f"{number(best.value, 2)}."
    )


def _macro_bounds(model: ModelResult) -> str:
    """Say the same of the mean over the findings that the macro mean is over."""
    rare = {each.label for each in model.left_out}
    rows = [row for row in model.labels if row.label not in rare and not np.isnan(row.metrics["auroc"].value)]
    if not rows or f"auroc{WORST}" not in rows[0].metrics:
        return ""
    worst, best = (_mean(rows, f"auroc{ending}") for ending in (WORST, BEST))
    return (
        f"Whatever scores they had been given, the mean AUROC of {many(len(rows), 'finding')} would lie between "
        f"{number(worst, 2)} and {number(best, 2)}."
    )


def _mean(rows: Sequence[LabelResult], metric: str) -> float:
    return float(np.mean([row.metrics[metric].value for row in rows if metric in row.metrics]))


def _share(count: int, among: int) -> str:
    return f"{100 * count / among:.0f} %"
