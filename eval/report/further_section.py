"""The report's sections on further metrics, and on metrics in the population that an enriched set was drawn from."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ...datasets.manifest.tables import Predictions
from ..evaluation import Evaluation
from ..statistics.classes import detailed_labels, exclusive, true_classes
from ..statistics.further_metrics import RATE, hand_till, label_metric_words, label_metrics, micro_auroc
from ..statistics.intervals import Estimate
from ..statistics.operating_points import OperatingPoint
from ..statistics.weighted import case_weights, effective_size, weighted_metrics
from .metrics_json import estimate_json
from .section import MetricRow, Section

WEIGHTED = {
    "prevalence": "Prevalence", "auroc": "AUROC", "sensitivity": "Sensitivity", "specificity": "Specificity",
    "ppv": "PPV", "npv": "NPV", "brier": "Brier score",
}  # fmt: skip
METHODS = (
    f"The partial AUROC is up to a false-positive rate of {RATE:g}, standardised as by McClish. The scaled Brier score "
    "is one minus the Brier score over that of the prevalence. The micro AUROC pools all cases and labels; M is Hand’s "
    "and Till’s mean over all pairs of classes. Intervals are of the bootstrap by patient."
)
METHODS_WEIGHTED = (
    "Weighted metrics: each case weighs as many patients as it stands for (Hájek); intervals are of the bootstrap by "
    "patient."
)


def further_section(tables: Mapping[str, Predictions], evaluation: Evaluation) -> Section:
    """Return the section on further metrics, after "Discrimination"."""
    rows = [row for name, table in tables.items() for row in _further(name, table, evaluation)]
    labels: dict[tuple[str, str], dict[str, Estimate]] = {}
    for row in rows:
        labels.setdefault((row.model, row.label), {})[row.metric] = row.estimate
    return Section(
        anchor="further",
        title="Further metrics",
        after="results",
        content={"names": label_metric_words(), "rows": {key: own for key, own in labels.items() if key[1]},
                 "whole": {key[0]: own for key, own in labels.items() if not key[1]}},
        plain=[_plain(row) for row in rows],
        metrics=rows,
        methods=METHODS,
    )  # fmt: skip


def weighted_section(
    tables: Mapping[str, Predictions], columns: pd.DataFrame, points: Mapping[str, Sequence[OperatingPoint]],
    evaluation: Evaluation,
) -> Section | None:  # fmt: skip
    """Return the section on weighted metrics, after "Discrimination"; None where no column of weights is named.

    Args:
        tables: Model name to its predictions.
        columns: What is known of the cases, by id.
        points: Model name to its operating points, one per label.
        evaluation: The split, and the column of the weights.
    """
    if evaluation.weights is None:
        return None
    rows, worth = [], {}
    for name, table in tables.items():
        scored = table.rows(evaluation.split).scored()
        weights = case_weights(columns, scored.table["id"], evaluation.weights)
        truth, scores = scored.truth(), scored.scores()
        bootstrap = evaluation.bootstrap(scored.table["patient"], truth)
        worth[name] = effective_size(weights)
        for label in detailed_labels(table, evaluation.split):
            i = table.labels.index(label)
            cut = next((point.threshold for place, point in enumerate(points[name]) if place == i), np.nan)
            own = weighted_metrics(truth[:, i], scores[:, i], cut, weights, bootstrap)
            rows += [
                MetricRow(name, label, f"weighted_{metric}", estimate, len(truth), int((truth[:, i] == 1).sum()))
                for metric, estimate in own.items()
            ]
    labels: dict[tuple[str, str], dict[str, Estimate]] = {}
    for row in rows:
        labels.setdefault((row.model, row.label), {})[row.metric.removeprefix("weighted_")] = row.estimate
    return Section(
        anchor="weighted",
        title="Weighted",
        after="results",
        content={"column": evaluation.weights, "names": WEIGHTED, "rows": labels, "worth": worth},
        plain={"column": evaluation.weights, "effective_cases": worth, "metrics": [_plain(row) for row in rows]},
        metrics=rows,
        methods=METHODS_WEIGHTED,
    )


def _further(name: str, table: Predictions, evaluation: Evaluation) -> list[MetricRow]:
    scored, detailed = table.rows(evaluation.split).scored(), detailed_labels(table, evaluation.split)
    places = [table.labels.index(label) for label in detailed]
    truth, scores = scored.truth(), scored.scores()
    bootstrap = evaluation.bootstrap(scored.table["patient"], truth)
    rows = [
        MetricRow(name, label, metric, estimate, int((~np.isnan(truth[:, i])).sum()), int((truth[:, i] == 1).sum()))
        for label, i, own in zip(detailed, places, label_metrics(truth[:, places], scores[:, places], bootstrap))
        for metric, estimate in own.items()
    ]
    if len(detailed) > 1 and detailed == table.labels:
        rows.append(MetricRow(name, "", "micro_auroc", micro_auroc(truth, scores, bootstrap), len(truth)))
        if exclusive(table):
            between = hand_till(true_classes(scored), scores, bootstrap)
            rows.append(MetricRow(name, "", "hand_till_m", between, len(truth)))
    return rows


def _plain(row: MetricRow) -> dict:
    return {"model": row.model, "label": row.label, "metric": row.metric} | estimate_json(row.estimate)
