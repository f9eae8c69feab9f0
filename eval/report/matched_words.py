"""Two models at a matched rate, as a sentence and as rows of tables."""

import numpy as np

from ..statistics.intervals import Estimate
from ..statistics.matched import OTHER, Matched
from ..statistics.results import Results
from ..statistics.rules import parse_rule
from .formats import interval, number, signed
from .section import MetricRow


def matched_sentences(found: Results, label: str | None) -> list[str]:
    """Say the other rate of both models where they have the same sensitivity (or specificity), of one finding."""
    sentences = []
    for other, rows in found.matched.items():
        for row in rows:
            if row.label == label and not np.isnan(row.difference.value):
                sentences.append(_sentence(found, other, row))
    return sentences


def matched_rows(found: Results) -> list[MetricRow]:
    """Return rows of `metrics.csv`: `specificity_at_sensitivity=0.9_difference`."""
    assert found.evaluation.matched is not None or not found.matched, "rows are matched at a rate"
    return [
        MetricRow(
            f"{found.models[0].name} - {other}", row.label,
            f"{matched_rate(found)}_at_{found.evaluation.matched}_difference", row.difference,
            found.comparisons[other].cases,
        )
        for other, rows in found.matched.items()
        for row in rows
    ]  # fmt: skip


def matched_rate(found: Results) -> str:
    """Return the rate that is compared: the specificity at a sensitivity, and the reverse; empty where none is."""
    return "" if found.evaluation.matched is None else OTHER[parse_rule(found.evaluation.matched).kind]


def _sentence(found: Results, other: str, row: Matched) -> str:
    rule, first = parse_rule(found.evaluation.matched or ""), found.models[0].name
    return (
        f"Both at a {rule.kind} of {rule.level:g} on these cases: {matched_rate(found)} {number(row.first, 2)} "
        f"of {first} and {number(row.second, 2)} of {other}, difference "
        f"{signed(row.difference.value)}{_ci(row.difference)}."
    )


def _ci(estimate: Estimate) -> str:
    if np.isnan(estimate.low) or estimate.reason:
        return f" ({estimate.reason})"
    return f" (95 % CI {interval(estimate, 3, sign=True)})"
