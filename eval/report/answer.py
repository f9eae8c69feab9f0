"""What the page begins with: one figure, and sensitivity and specificity at the threshold."""

from collections.abc import Mapping, Sequence

import markupsafe
import numpy as np

from ..statistics.intervals import Estimate
from ..statistics.results import LabelResult, ModelResult, Results
from .formats import many, number
from .headline import main_label
from .panels import Curves
from .plots import forest, roc_panel

MACRO = "Macro mean"


def answer(found: Results, drawn: Sequence[str], curves: Mapping[str, Curves]) -> dict:
    """Return the contents of the first screen.

    Args:
        found: The evaluation.
        drawn: Labels that may be drawn.
        curves: Of each of these.

    Returns:
        `kind` is `one` label, `several`, or `classes` (whose figure is the confusion matrix of the section on them);
        `figure` is its SVG, `labels` are the rows of the table in the order of the figure, and `reason` says why no
        label has a threshold, where that is one reason for all.
    """
    first = found.models[0]
    row = main_label(first)
    kind = "one" if row is not None else "classes" if first.classes is not None else "several"
    labels = [row.label] if row is not None else [each.label for each in in_order(first, drawn)]
    svg = ""
    if row is not None and row.label in curves:
        svg = _roc(found, row.label, curves[row.label])
    elif kind == "several":
        svg = _forest(found, labels)
    return {
        "kind": kind,
        "figure": markupsafe.Markup(svg),
        "labels": labels,
        "reason": shared_reason([each for model in found.models for each in model.labels if each.detailed]),
        "hollow": 'id="forest-hollow' in svg,
    }


def in_order(model: ModelResult, drawn: Sequence[str]) -> list[LabelResult]:
    """Return the labels by falling AUROC; those whose AUROC has a reservation come last, for it may be chance."""
    rows = [row for row in model.labels if row.label in set(drawn) and not np.isnan(row.metrics["auroc"].value)]
    return sorted(rows, key=lambda row: (row.metrics["auroc"].marked, -row.metrics["auroc"].value))


def shared_reason(rows: Sequence[LabelResult]) -> str:
    """Return why there is no threshold where no row has one and all say the same; else nothing."""
    reasons = {row.point.reason if np.isnan(row.point.threshold) else "" for row in rows}
    return reasons.pop() if len(reasons) == 1 else ""


def _roc(found: Results, label: str, own: Curves) -> str:
    said = "; ".join(f"{name} {number(row.metrics['auroc'].value)}" for name, row in own.rows)
    alt = f"ROC curve, {label}, with the operating point. AUROC: {said}."
    return roc_panel(own.curves, own.roc_bands, own.roc_points, "answer", alt, large=True)


def _forest(found: Results, labels: Sequence[str]) -> str:
    """Draw the macro mean, then these labels; "" if there is none."""
    if not labels:
        return ""
    missing, rows = Estimate(float("nan")), []
    for model in found.models:
        own = {row.label: row.metrics["auroc"] for row in model.labels}
        rows.append([model.macro["auroc"], *(own.get(label, missing) for label in labels)])
    positives = {row.label: f"{row.positives:,}" for row in found.models[0].labels}
    alt = f"AUROC with 95 % interval: macro mean and {many(len(labels), 'finding')}; metrics in the tables."
    return forest([MACRO, *labels], ["", *(positives[label] for label in labels)], rows, "forest", alt)
