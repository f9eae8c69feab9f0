"""The report's section on gaps between groups of patients."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ...datasets.manifest.tables import Predictions
from ..evaluation import Evaluation
from ..statistics.classes import exclusive
from ..statistics.fairness import CALIBRATION, ODDS, OPPORTUNITY, Gap, fairness_gaps, with_intersections, worst_groups
from ..statistics.groups import groups, texts
from ..statistics.operating_points import OperatingPoint
from .formats import compared_p, interval, many, number, signed
from .metrics_json import estimate_json, number_json
from .section import MetricRow, Section

NAMES = {
    OPPORTUNITY: "sensitivity (equal opportunity)",
    ODDS: "false-positive rate (with the sensitivity: equalised odds)",
    CALIBRATION: "mean score minus truth (calibration)",
}
_WORSE = {
    OPPORTUNITY: "{label} is missed most often in {group} ({column})",
    ODDS: "false alarms for {label} are most frequent in {group} ({column})",
    CALIBRATION: "scores for {label} are furthest off in {group} ({column})",
}
MOST_SHOWN = 30  # labels with a table on the page
METHODS = (
    "Fairness gaps: each group against all other cases. The interval of a difference of two rates is Newcombe’s, of "
    "Wilson intervals of the effective number of cases, less the covariance of patients on both sides; that of the "
    "mean of score minus truth is of the sums by patient and the t distribution. p is adjusted by Holm over all gaps "
    "of the model; a side with fewer than 10 patients has neither."
)


def fairness_section(
    tables: Mapping[str, Predictions], columns: pd.DataFrame, names: Sequence[str],
    points: Mapping[str, Sequence[OperatingPoint]], evaluation: Evaluation,
) -> Section | None:  # fmt: skip
    """Return the section after "Calibration"; None where the labels are exclusive classes, or no column has two groups.

    Args:
        tables: Model name to its predictions.
        columns: What is known of the cases, by id.
        names: Columns to group by.
        points: Model name to its operating points, one per label.
        evaluation: The split.
    """
    found = {
        name: gaps
        for name, table in tables.items()
        if not exclusive(table) and (gaps := _gaps(table, columns, names, points[name], evaluation))
    }
    if not found:
        return None
    name, first = next(iter(found.items()))
    return Section(
        anchor="fairness",
        title="Fairness",
        after="calibration",
        content={
            "model": name,
            "metrics": NAMES,
            "sentences": _sentences(first),
            "tables": _tables(first),
            "gaps": sum(not np.isnan(gap.p) and not gap.mirrored for gap in first),
            "labels": len({gap.label for gap in first}),
        },
        plain={"models": [{"model": name, "gaps": [_plain(gap) for gap in own]} for name, own in found.items()]},
        metrics=[_row(name, gap) for name, own in found.items() for gap in own],
        methods=METHODS,
    )


def _gaps(
    table: Predictions, columns: pd.DataFrame, names: Sequence[str], points: Sequence[OperatingPoint],
    evaluation: Evaluation,
) -> list[Gap]:  # fmt: skip
    scored = table.rows(evaluation.split).scored()
    truth = scored.truth()
    bootstrap = evaluation.bootstrap(scored.table["patient"], truth)
    known = columns[list(names)].reindex(scored.table["id"]).reset_index(drop=True)
    parted = [(name, group) for name in names for group in groups(name, texts(known[name])) if not group.rows.all()]
    parted = with_intersections(parted, bootstrap.index)
    if not parted:
        return []
    thresholds = [point.threshold for point in points]
    return fairness_gaps(truth, scored.scores(), thresholds, table.labels, parted, bootstrap)


def _sentences(found: Sequence[Gap]) -> list[str]:
    """Say which groups are worst off, of those that are shown to be, and how many gaps were looked at."""
    compared = sum(not np.isnan(gap.p) and not gap.mirrored for gap in found)
    shown = sum(gap.shown and not gap.mirrored for gap in found)
    whole = f"{many(compared, 'gap')} had 10 patients or more on both sides; {shown:,} remain after Holm’s correction."
    if not compared:
        return ["No group has 10 patients or more on both sides of a comparison: nothing can be said of gaps."]
    worst = [_worst_words(gap) for gap in worst_groups(found)]
    return [whole, *(worst or ["No group is shown to be worse off than the others."])]


def _worst_words(gap: Gap) -> str:
    where = _WORSE[gap.metric].format(label=gap.label, group=gap.group, column=gap.column)
    return (
        f"{where[0].upper()}{where[1:]}: {number(gap.value)}, {signed(gap.difference.value)} against all others (95 % "
        f"CI {interval(gap.difference, sign=True)}, p {compared_p(gap.adjusted)})."
    )


def _tables(found: Sequence[Gap]) -> dict[str, list[dict]]:
    """Return by label one row per group, with its gap by metric."""
    rows: dict[str, dict[tuple[str, str], dict]] = {}
    for gap in found:
        own = rows.setdefault(gap.label, {}).setdefault((gap.column, gap.group), {"column": gap.column, "gaps": {}})
        own["group"], own["gaps"][gap.metric] = gap.group, gap
    return {label: list(own.values()) for label, own in list(rows.items())[:MOST_SHOWN]}


def _row(model: str, gap: Gap) -> MetricRow:
    name = f"fairness_{gap.metric}_gap[{gap.column}={gap.group}]"
    return MetricRow(model, gap.label, name, gap.difference, gap.cases)


def _plain(gap: Gap) -> dict:
    return {
        "label": gap.label,
        "metric": gap.metric,
        "column": gap.column,
        "group": gap.group,
        "n": gap.cases,
        "patients": gap.patients,
        "value": number_json(gap.value),
        "others": number_json(gap.others),
        "difference": estimate_json(gap.difference),
        "p": number_json(gap.p),
        "p_holm": number_json(gap.adjusted),
    }
