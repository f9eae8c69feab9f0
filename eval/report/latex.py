"""The metrics of an evaluation as LaTeX: `report.tex` compiles as it is, and its tables can be copied into a paper.

It needs the packages booktabs, longtable, geometry, iftex and fontspec, which every TeX distribution has. Names in
other scripts than Latin need XeLaTeX or LuaLaTeX.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from ..statistics.compare import Comparison
from ..statistics.failures import AS_WRONG, BEST, WORST
from ..statistics.intervals import NO_INTERVAL, Estimate
from ..statistics.results import ModelResult, Results
from .formats import interval, number, p_value, signed
from .matched_words import matched_rate

_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "−": r"$-$", "–": "--", "’": "'", "“": "``", "”": "''",
    "[": "{[}", "*": "{*}",  # after a line's end they would be read as its options
}  # fmt: skip
HEAD = r"""\documentclass[10pt]{article}
\usepackage[a4paper, margin=18mm]{geometry}
\usepackage{booktabs}
\usepackage{longtable}
\usepackage{iftex}
\iftutex
  \usepackage{fontspec}
\else
  \usepackage[utf8]{inputenc}
  \usepackage[T1]{fontenc}
\fi
\setlength{\tabcolsep}{4pt}
\begin{document}
\small
"""
_OVERALL = {
    "macro_auroc": "Macro AUROC",
    "macro_average_precision": "Macro average precision",
    "macro_brier": "Macro Brier score",
    "accuracy": "Accuracy",
    "baseline_accuracy": "Accuracy of always saying the most frequent class",
    "top5_accuracy": "Top-5 accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "kappa": "Cohen's kappa",
    "mcc": "Matthews correlation",
    "accuracy_failed_as_wrong": "Accuracy, failed cases counted as wrong",
}
_AT_PREVALENCE = {"ppv_at_prevalence": "PPV", "npv_at_prevalence": "NPV"}


def latex(found: Results, title: str, headline: Sequence[str]) -> str:
    """Return a whole document: metrics over all labels, per label of each model, and comparisons.

    Args:
        found: The evaluation.
        title: Of the document.
        headline: The result in sentences.
    """
    parts = [
        HEAD,
        rf"\section*{{{escape(title)}}}",
        escape(" ".join(headline)),
        "",
        rf"\noindent Split ``{escape(found.evaluation.split)}''. Intervals: 95\,\% in parentheses, "
        rf"{found.evaluation.resamples:,} bootstrap resamples of patients ({_kind(found)}). Not for clinical use.",
        "",
        _overall(found),
    ]
    for model in found.models:
        parts += [_discrimination(model), _operating_points(model), _counts(model), _flow(model)]
    for other, comparison in found.comparisons.items():
        parts += [
            _differences(found.models[0].name, other, comparison),
            _decisions(found.models[0].name, other, comparison),
        ]
        if other in found.matched:
            parts.append(_matched(found, other))
    return "\n".join([*parts, r"\end{document}", ""])


def escape(text: object) -> str:
    """Return any text as LaTeX shows it; line breaks and control characters become spaces."""
    plain = "".join(char if char.isprintable() else " " for char in str(text))
    return "".join(_SPECIAL.get(char, char) for char in plain)


def _kind(found: Results) -> str:
    drawn = "BCa" if found.evaluation.interval == "bca" else "percentile"
    return f"{drawn}, stratified by finding" if found.evaluation.stratify else drawn


def _overall(found: Results) -> str:
    own = []
    for model in found.models:
        metrics = {f"macro_{metric}": estimate for metric, estimate in model.macro.items()}
        own.append(metrics | ({} if model.classes is None else model.classes.metrics))
    rows = [
        [name, *(estimate_cell(metrics.get(metric)) for metrics in own)]
        for metric, name in _OVERALL.items()
        if any(metric in metrics for metrics in own)
    ]
    return table("All labels together.", ["Metric", *(escape(model.name) for model in found.models)], rows)


def _discrimination(model: ModelResult) -> str:
    rows = [
        [escape(row.label), f"{row.positives:,} / {row.cases:,}"]
        + [estimate_cell(row.metrics[metric]) for metric in ("auroc", "average_precision", "brier")]
        for row in model.labels
        if row.detailed
    ]
    head = ["Label", "Positive / $n$", "AUROC", "Average precision", "Brier score"]
    return table(f"{escape(model.name)}: discrimination.", head, rows)


def _operating_points(model: ModelResult) -> str:
    names = {"sensitivity": "Sensitivity", "specificity": "Specificity", "ppv": "PPV", "npv": "NPV", "mcc": "MCC"}
    rows = [
        [escape(row.label), _math(number(row.point.threshold))]
        + [estimate_cell(row.metrics.get(name), 2) for name in names]
        for row in model.labels
        if row.detailed
    ]
    tables = [table(f"{escape(model.name)}: operating points.", ["Label", "Threshold", *names.values()], rows)]
    stated = [row for row in model.labels if not np.isnan(row.prevalence)]
    if stated:
        rows = [
            [escape(row.label), rf"{100 * row.prevalence:g}\,\%"]
            + [estimate_cell(row.metrics[name], 2) for name in _AT_PREVALENCE]
            for row in stated
        ]
        head = ["Label", "Prevalence", *_AT_PREVALENCE.values()]
        tables.append(table(f"{escape(model.name)}: predictive values at a stated prevalence.", head, rows))
    return "\n".join(tables)


def _counts(model: ModelResult) -> str:
    rows = [
        [escape(row.label), *(f"{cell:,}" for cell in row.counts)]
        + [estimate_cell(row.metrics[name], 2) for name in ("lr_positive", "lr_negative")]
        + [escape(row.point.source)]
        for row in model.labels
        if row.counts is not None
    ]
    head = ["Label", "TP", "FP", "FN", "TN", "LR$+$", "LR$-$", "Threshold"]
    return table(f"{escape(model.name)}: cases at the threshold, and likelihood ratios.", head, rows) if rows else ""


def _flow(model: ModelResult) -> str:
    """Return the cases from requested to analysed, and what failed ones do to the metrics."""
    shown = [row for row in model.labels if row.detailed and row.flow is not None]
    rows = [[escape(row.label), *(f"{count:,}" for count in row.flow or ())] for row in shown]
    head = ["Label", "Requested", "Failed, positive", "negative", "unknown", "Truth unknown", "Positive", "Negative"]
    tables = [table(f"{escape(model.name)}: from requested to analysed cases.", head, rows)]
    if len(model.failed):
        rows = [
            [escape(row.label)]
            + [estimate_cell(row.metrics[f"{name}{AS_WRONG}"], 2) for name in ("sensitivity", "specificity")]
            + [
                " to ".join(_math(number(row.metrics[f"{name}{end}"].value, 2)) for end in (WORST, BEST))
                for name in ("auroc", "sensitivity", "specificity", "ppv", "npv")
            ]
            for row in shown
        ]
        head = ["Label", "Sensitivity", "Specificity", "AUROC", "Sensitivity", "Specificity", "PPV", "NPV"]
        caption = f"{escape(model.name)}: failed cases counted as wrong; then bounds, whatever scores they had got."
        tables.append(table(caption, head, rows))
    return "\n".join(tables)


def _differences(first: str, other: str, comparison: Comparison) -> str:
    rows = [
        [
            escape(label),
            estimate_cell(comparison.differences["auroc"][i], 3, True),
            estimate_cell(comparison.differences["average_precision"][i], 3, True),
            _math(p_value(comparison.tests[i].p)),
            _math(p_value(comparison.adjusted[i])),
        ]
        for i, label in enumerate(comparison.labels)
    ]
    macro = [estimate_cell(comparison.macro[metric], 3, True) for metric in ("auroc", "average_precision")]
    rows.append(["Macro mean", *macro, _math(p_value(comparison.p["auroc"])), "--"])
    head = ["Label", "AUROC difference", "AP difference", "$p$ (DeLong)", "$p$ (Holm)"]
    caption = f"{escape(first)} minus {escape(other)}, {comparison.cases:,} cases; $p$ of the macro mean by bootstrap."
    return table(caption, head, rows)


def _matched(found: Results, other: str) -> str:
    first, at = found.models[0].name, found.evaluation.matched or ""
    rows = [
        [escape(row.label), _math(number(row.first)), _math(number(row.second)), estimate_cell(row.difference, 3, True)]
        for row in found.matched[other]
    ]
    caption = f"{matched_rate(found).capitalize()} of both models at {escape(at.replace('=', ' '))} on these cases."
    return table(caption, ["Label", escape(first), escape(other), "Difference"], rows)


def _decisions(first: str, other: str, comparison: Comparison) -> str:
    decided = comparison.decisions
    assert decided is not None, "a report compares models at their thresholds"
    rows = [
        [
            escape(label),
            estimate_cell(decided.sensitivity[i], 3, True),
            estimate_cell(decided.specificity[i], 3, True),
            f"{decided.only_first[i]:,} : {decided.only_second[i]:,}",
            _math(p_value(decided.p[i])),
            _math(p_value(decided.adjusted[i])),
        ]
        for i, label in enumerate(comparison.labels)
    ]
    head = ["Label", "Sensitivity difference", "Specificity difference", "Right alone", "$p$ (McNemar)", "$p$ (Holm)"]
    return table(f"{escape(first)} minus {escape(other)}, each at its own thresholds.", head, rows)


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of cells that are LaTeX already."""
    lines = [
        rf"\begin{{longtable}}{{@{{}}l{'r' * (len(head) - 1)}@{{}}}}",
        rf"\caption{{{caption}}}\\",
        r"\toprule",
        " & ".join(head) + r" \\",
        r"\midrule",
        r"\endhead",
        r"\bottomrule",
        r"\endfoot",
        *(" & ".join(row) + r" \\" for row in rows),
        r"\end{longtable}",
    ]
    return "\n".join(lines) + "\n"


def estimate_cell(estimate: Estimate | None, digits: int = 3, sign: bool = False) -> str:
    """Return `0.874 (0.84--0.90)`; `--` where undefined or missing, a dagger where the interval is too narrow."""
    if estimate is None or np.isnan(estimate.value):
        return "--"
    dagger = r"$^\dagger$" if estimate.marked and not estimate.reason.startswith(NO_INTERVAL) else ""
    between = interval(estimate, digits, sign)
    value = signed(estimate.value, digits) if sign else number(estimate.value, digits)
    return _math(value) + dagger + (f" ({_math(between)})" if between else "")


def _math(text: str) -> str:
    """Return a number of the page with its signs as LaTeX sets them."""
    return text.replace("−", "$-$").replace("+", "$+$").replace("<", "$<$").replace("–", "--")
