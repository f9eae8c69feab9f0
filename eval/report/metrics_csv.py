"""`metrics.csv` with one row per metric, and `disagreements.csv` of the models compared."""

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from ..localisation.tiles import Localisation
from ..statistics.classes import ClassResult
from ..statistics.compare import Comparison
from ..statistics.intervals import NO_INTERVAL, Estimate
from ..statistics.results import LabelResult, ModelResult, Results
from .localisation_section import localisation_metrics
from .matched_words import matched_rows
from .section import MetricRow, Section

COLUMNS = ("model", "label", "metric", "value", "low", "high", "n", "positives", "reason")


def metrics_table(
    found: Results, localisation: Mapping[str, Localisation], sections: Sequence[Section] = ()
) -> pd.DataFrame:
    """Return one row per metric, with the columns `COLUMNS`.

    Macro means have no label. Of exclusive classes, `classes_accuracy` and the like are over all of them,
    `class_sensitivity` and the like are each one's own; both are of the decisions, not of a threshold.
    """
    rows: list[MetricRow] = []
    for model in found.models:
        rows += _model_rows(model, localisation.get(model.name))
    for other, comparison in found.comparisons.items():
        rows += _difference_rows(f"{found.models[0].name} - {other}", comparison)
    rows += matched_rows(found)
    rows += [row for section in sections for row in section.metrics]
    cells = [
        (row.model, row.label, row.metric, e.value, e.low, e.high, row.cases, row.positives, e.reason)
        for row in rows
        for e in [row.estimate]
    ]
    return pd.DataFrame(cells, columns=list(COLUMNS)).astype({"n": "Int64", "positives": "Int64"})


def disagreements_table(found: Results) -> pd.DataFrame:
    """Return the cases on which two models differ most, the largest difference of score first.

    One row per case and label, with the names of both models before it.
    """
    tables = []
    for other, comparison in found.comparisons.items():
        names = {"model_first": found.models[0].name, "model_second": other}
        tables.append(comparison.disagreements.assign(**names)[[*names, *comparison.disagreements.columns]])
    return pd.concat(tables, ignore_index=True)


def _model_rows(model: ModelResult, where: Localisation | None) -> Iterator[MetricRow]:
    name = model.name
    for metric, estimate in model.macro.items():
        yield MetricRow(name, "", f"macro_{metric}", estimate, len(model.table))
    if model.classes is not None:
        yield from _class_rows(name, model.classes)
    if where is not None:
        for metric, estimate in localisation_metrics(where).items():
            yield MetricRow(name, "", f"localisation_{metric}", estimate, where.froc.slides)
    for label in model.labels:
        threshold = Estimate(label.point.threshold, reason=label.point.reason)
        for metric, estimate in ({"threshold": threshold} | _counts(label) | label.metrics).items():
            yield MetricRow(name, label.label, metric, estimate, label.cases, label.positives)


def _counts(label: LabelResult) -> dict[str, Estimate]:
    """Return cases requested, failed and of unknown truth, and those by truth and predicted label."""
    flow, cells = label.flow, label.counts
    found = {} if flow is None else {
        "requested": flow.requested, "failed_positive": flow.failed_positive, "failed_negative": flow.failed_negative,
        "failed_unknown": flow.failed_unknown, "unknown_truth": flow.unknown,
    }  # fmt: skip
    found |= {} if cells is None else cells._asdict()
    return {name: Estimate(float(count), reason=f"{NO_INTERVAL}: a count") for name, count in found.items()}


def _class_rows(model: str, found: ClassResult) -> Iterator[MetricRow]:
    for metric, estimate in found.metrics.items():
        cases = found.cases + (found.failed if metric == "accuracy_failed_as_wrong" else 0)
        yield MetricRow(model, "", f"classes_{metric}", estimate, cases)
    for i, label in enumerate(found.labels):
        for metric, estimates in found.per_class.items():
            yield MetricRow(model, label, f"class_{metric}", estimates[i], found.cases, int(found.confusion[i].sum()))


def _difference_rows(pair: str, comparison: Comparison) -> Iterator[MetricRow]:
    """Return differences of two models; the model of a row is `first - second`."""
    decided = comparison.decisions
    assert decided is not None, "a report compares models at their thresholds"
    for metric, estimate in comparison.macro.items():
        yield MetricRow(pair, "", f"macro_{metric}_difference", estimate, comparison.cases)
    for i, label in enumerate(comparison.labels):
        own = {metric: each[i] for metric, each in comparison.differences.items()}
        own |= {"sensitivity": decided.sensitivity[i], "specificity": decided.specificity[i]}
        own = {f"{metric}_difference": estimate for metric, estimate in own.items()} | {
            "delong_p": Estimate(comparison.tests[i].p),
            "delong_p_holm": Estimate(comparison.adjusted[i]),
            "mcnemar_p": Estimate(decided.p[i]),
            "mcnemar_p_holm": Estimate(decided.adjusted[i]),
        }
        for metric, estimate in own.items():
            yield MetricRow(pair, label, metric, estimate, comparison.cases)
