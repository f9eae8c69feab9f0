"""The report's section on the steps of a cascade: what each model is worth by itself, on the cases that reach it."""

from collections.abc import Mapping

import numpy as np

from ..statistics.results import LabelResult, Results
from .formats import interval, many, number
from .metrics_json import estimate_json
from .section import MetricRow, Section

METHODS = (
    "The steps of the cascade are evaluated one by one, each on all cases whose truth of its own question is known, "
    "whatever the steps before decided."
)


def steps_section(found: Mapping[str, Results], unit: str) -> Section:
    """Return the section after the discrimination of the whole.

    Args:
        found: Name of a step to the evaluation of its one model, whose first label is the question; in order.
        unit: What a case is, in the singular.
    """
    rows = {name: own.models[0].labels[0] for name, own in found.items()}
    words = verdict(rows, unit)
    return Section(
        anchor="steps",
        title="Steps",
        after="results",
        content={"rows": rows, "verdict": words},
        plain={
            "verdict": words,
            "steps": [
                {
                    "name": name, "label": row.label, "cases": row.cases, "positives": row.positives,
                    "auroc": estimate_json(row.metrics["auroc"]),
                }
                for name, row in rows.items()
            ],
        },
        metrics=[
            MetricRow("", row.label, "step_auroc", row.metrics["auroc"], row.cases, row.positives)
            for row in rows.values()
        ],
        methods=METHODS,
    )  # fmt: skip


def verdict(steps: Mapping[str, LabelResult], unit: str) -> str:
    """Say what each step is worth by itself, and which of them holds the whole down."""
    words, unproved = [], []
    for name, row in steps.items():
        auroc = row.metrics["auroc"]
        ends = f" (95 % CI {interval(auroc, 2)})" if not np.isnan(auroc.low) else f" ({auroc.reason or 'no interval'})"
        words.append(f"{name}: AUROC {number(auroc.value, 2)}{ends} on {many(row.cases, unit)}.")
        if not auroc.low > 0.5:
            unproved.append(name)
    if unproved:
        words.append(
            f"Not shown to be better than chance: {', '.join(unproved)}. A cascade is no better than its weakest step: "
            "where one only guesses, so does the cascade about the outcomes that the step tells apart."
        )
    else:
        words.append("Each step is better than chance; what the cascade loses, it loses at their thresholds.")
    return " ".join(words)
