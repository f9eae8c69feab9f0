"""Groups of exclusive classes beside findings: each judged by the metrics of several classes, in its own section."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ...core.label_groups import findings_of, groups_of, is_mixed, parts_of
from ...datasets.manifest.tables import Predictions
from ..evaluation import Evaluation
from ..statistics.classes import EXCLUSIVE
from ..statistics.intervals import Estimate
from ..statistics.results import Results, results
from .class_section import class_section
from .headline import headline
from .metrics_csv import metrics_table
from .metrics_json import classes_json
from .section import MetricRow, Section


def findings_alone(tables: Mapping[str, Predictions]) -> dict[str, Predictions]:
    """Return tables without the classes of groups that stand beside other labels; of groups alone the first group."""
    found = {}
    for name, table in tables.items():
        labels = tuple(findings_of(table.labels))
        if not labels:
            labels = tuple(table.labels[place] for place in parts_of(table.labels)[0].places)
        found[name] = replace(table, labels=labels) if is_mixed(table.labels) else table
    return found


def group_section(tables: Mapping[str, Predictions], evaluation: Evaluation, unit: str) -> Section | None:
    """Return the section on the groups of the first table; None where it has none beside other labels.

    Args:
        tables: Model name to its table, with all labels.
        evaluation: What is evaluated, and how; rules and prevalences are of findings and play no part.
        unit: What a case is.
    """
    first = next(iter(tables.values()))
    if not is_mixed(first.labels):
        return None
    own = replace(evaluation, rule=None, prevalence=None, kind=None, matched=None, margin=None)
    groups, without = [], []
    for group, places in groups_of(first.labels).items():
        labels = tuple(first.labels[place] for place in places)
        parts = {
            name: replace(table, labels=labels, kind=EXCLUSIVE)
            for name, table in tables.items()
            if set(labels) <= set(table.labels)
        }
        asked = first.rows(evaluation.split).scored()
        if np.isnan(replace(asked, labels=labels).truth()).all():
            without.append(group)
            continue
        groups.append((group, results(parts, own)))
    return _section(groups, without, unit)


def _section(groups: list[tuple[str, Results]], without: list[str], unit: str) -> Section:
    shown, plain, rows = [], [], []
    for group, found in groups:
        sentences = headline(found, unit)
        shown.append({"name": group, "classes": class_section(found), "sentences": sentences})
        plain.append(
            {"group": group, "headline": sentences, "models": [_plain(found, model) for model in found.models]}
        )
        rows += _rows(group, found)
    return Section(
        anchor="groups",
        title="Groups of classes",
        after="results",
        content={"groups": shown, "without": without},
        plain={"groups": plain, "without_truth": without},
        metrics=rows,
        methods="Labels of a group exclude each other: the largest of their scores decides, and they are judged by the "
        "metrics of several classes over the cases whose class is known; the other labels each on its own.",
    )


def _plain(found: Results, model: Any) -> dict[str, Any]:
    return {"name": model.name, "classes": classes_json(model.classes)}


def _rows(group: str, found: Results) -> list[MetricRow]:
    """Return the rows of classes and of models compared, as `metrics.csv` has them of exclusive classes alone."""
    table = metrics_table(found, {})
    kept = table[table["metric"].str.match(r"classes_|class_|macro_|auroc")]
    rows = []
    for row in kept.itertuples(index=False):
        estimate = Estimate(row.value, row.low, row.high, row.reason)
        cases = None if row.n is None or row.n != row.n else int(row.n)
        rows.append(MetricRow(row.model, row.label or group, row.metric, estimate, cases))
    return rows
