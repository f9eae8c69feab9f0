"""Comparisons of models for `report.json`, `metrics.csv` and `disagreements.csv`."""

from typing import Any

import pandas as pd

from ..statistics.compare import LISTED, Comparison
from ..statistics.compare_decisions import DecisionComparison
from ..statistics.results import Results
from .metrics_json import estimate_json, number_json


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """A comparison for `report.json`."""
    decided = comparison.classes
    own = {} if decided is None else {
        "n": decided.cases,
        "accuracy_difference": estimate_json(decided.accuracy),
        "only_first_right": decided.only_first,
        "only_second_right": decided.only_second,
        "mcnemar_p": number_json(decided.p),
    }  # fmt: skip
    return ({"classes": own} if own else {}) | {
        "cases": comparison.cases,
        "patients": comparison.patients,
        "left_out": comparison.left_out,
        "labels_not_shared": list(comparison.not_shared),
        "macro_difference": {
            metric: estimate_json(e) | {"p": number_json(comparison.p[metric])}
            for metric, e in comparison.macro.items()
        },
        "labels": [
            {
                "label": label,
                "auroc": estimate_json(comparison.differences["auroc"][i]),
                "average_precision": estimate_json(comparison.differences["average_precision"][i]),
                "delong": estimate_json(comparison.tests[i].difference)
                | {"p": number_json(comparison.tests[i].p), "p_holm": number_json(comparison.adjusted[i])},
            }
            | _decisions_json(comparison.decisions, i)
            for i, label in enumerate(comparison.labels)
        ],
        "disagreements": [
            {key: number_json(value) if isinstance(value, float) else value for key, value in row.items()}
            for row in comparison.disagreements.head(LISTED).to_dict("records")
        ],
    }


def _decisions_json(decided: DecisionComparison, label: int) -> dict[str, Any]:
    return {
        "sensitivity": estimate_json(decided.sensitivity[label]),
        "specificity": estimate_json(decided.specificity[label]),
        "decisions": {
            "only_first_right": int(decided.only_first[label]),
            "only_second_right": int(decided.only_second[label]),
            "mcnemar_p": number_json(decided.p[label]),
            "mcnemar_p_holm": number_json(decided.adjusted[label]),
        },
    }


def difference_rows(found: Results) -> list[tuple]:
    """Differences of the models for `metrics.csv`; the model of a row is `first - second`."""
    return [
        row
        for other, comparison in found.comparisons.items()
        for row in _difference_rows(f"{found.models[0].name} - {other}", comparison)
    ]


def _difference_rows(pair: str, comparison: Comparison) -> list[tuple]:
    rows, cases, nan = [], comparison.cases, float("nan")
    for metric, e in comparison.macro.items():
        rows.append((pair, "", f"macro_{metric}_difference", e.value, e.low, e.high, cases, "", e.reason))
    for i, label in enumerate(comparison.labels):
        own = {metric: each[i] for metric, each in comparison.differences.items()}
        own |= {"sensitivity": comparison.decisions.sensitivity[i], "specificity": comparison.decisions.specificity[i]}
        for metric, e in own.items():
            rows.append((pair, label, f"{metric}_difference", e.value, e.low, e.high, cases, "", e.reason))
        for name, p in {
            "delong_p": comparison.tests[i].p,
            "delong_p_holm": comparison.adjusted[i],
            "mcnemar_p": comparison.decisions.p[i],
            "mcnemar_p_holm": comparison.decisions.adjusted[i],
        }.items():
            rows.append((pair, label, name, p, nan, nan, cases, "", ""))
    return rows


def disagreements_table(found: Results) -> pd.DataFrame:
    """Cases on which two models differ most, the largest difference of score first: one row per case and label, with
    the names of both models before it.
    """
    tables = []
    for other, comparison in found.comparisons.items():
        names = {"model_first": found.models[0].name, "model_second": other}
        tables.append(comparison.disagreements.assign(**names)[[*names, *comparison.disagreements.columns]])
    return pd.concat(tables, ignore_index=True)
