"""`report.json`: all metrics as plain dicts, lists, texts, numbers and None, with a reason beside every None."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from ..localisation.froc import RATES, corners
from ..localisation.tiles import Localisation
from ..statistics.classes import ClassResult
from ..statistics.compare import LISTED, Comparison
from ..statistics.compare_decisions import DecisionComparison
from ..statistics.intervals import LEVEL, Estimate
from ..statistics.operating_points import GIVEN
from ..statistics.results import LabelResult, ModelResult, Results
from .context import Context
from .frequencies import natural_frequencies
from .margin_words import margin_plain
from .section import Section


def report_json(
    found: Results, title: str, headline: Sequence[str], context: Context, sections: Sequence[Section]
) -> dict[str, Any]:
    """Return what `report.json` holds."""
    settings = found.evaluation
    return {
        "title": title,
        "headline": list(headline),
        "split": settings.split,
        "settings": {
            "level": LEVEL,
            "resamples": settings.resamples,
            "seed": settings.seed,
            "interval": settings.interval,
            "stratified": settings.stratify,
            "threshold_asked": plain(settings.rule),
            "threshold_rule": ", ".join(_rules(found)),
            "prevalence": plain(settings.prevalence),
            "subgroups": plain(settings.subgroups),
            "kind_asked": settings.kind,
            "triage": None if settings.triage is None else asdict(settings.triage),
            "sets_coverage": settings.coverage,
        },
        "splits": found.splits,
        "labels": [row | {"what_one_means": context.meaning.get(row["label"], "")} for row in found.truths],
        "models": [_model(model, context) for model in found.models],
        "comparisons": [
            {"first": found.models[0].name, "second": other}
            | _comparison(comparison)
            | _margin(found, other)
            | _matched(found, other)
            for other, comparison in found.comparisons.items()
        ],
    } | {section.anchor: plain(section.plain) for section in sections}


def estimate_json(estimate: Estimate) -> dict[str, Any]:
    """Return a metric with its interval, reason and method."""
    return {
        "value": number_json(estimate.value),
        "low": number_json(estimate.low),
        "high": number_json(estimate.high),
        "reason": estimate.reason,
        "method": estimate.method,
        "undefined_resamples": estimate.undefined,
    }


def number_json(value: float) -> float | None:
    """Return the number; None where it is not finite."""
    return float(value) if np.isfinite(value) else None


def plain(value: Any) -> Any:
    """Return any value as JSON can hold it: arrays become lists, NaN and infinity None, unknown objects their text."""
    if isinstance(value, Mapping):
        return {str(key): plain(own) for key, own in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple | set):
        return [plain(own) for own in value]
    if isinstance(value, float):
        return number_json(value)
    return value if value is None or isinstance(value, str | int | bool) else str(value)


def _rules(found: Results) -> list[str]:
    """Return the rules that thresholds really come from."""
    rules = (row.point.rule for model in found.models for row in model.labels if row.detailed)
    return list(dict.fromkeys("stored with the model" if rule == GIVEN else rule for rule in rules))


def _margin(found: Results, other: str) -> dict[str, Any]:
    if other not in found.margins:
        return {}
    own = found.margins[other]
    return {"margin": margin_plain(own) | {"difference": estimate_json(own.difference)}}


def _matched(found: Results, other: str) -> dict[str, Any]:
    if other not in found.matched:
        return {}
    rows = [
        {"label": row.label, "first": number_json(row.first), "second": number_json(row.second)}
        | {"difference": estimate_json(row.difference)}
        for row in found.matched[other]
    ]
    return {"matched": {"at": found.evaluation.matched, "labels": rows}}


def _model(model: ModelResult, context: Context) -> dict[str, Any]:
    found = {
        "model": model.name,
        "requested": model.requested,
        "scored": len(model.table),
        "patients": model.patients,
        "kind": {"exclusive": model.kind.exclusive, "reason": model.kind.reason},
        "notes": list(model.notes),
        "failed": model.failed.to_dict("records"),
        "defined_labels": model.defined,
        "left_out_of_macro": [each._asdict() for each in model.left_out],
        "thresholds_chosen_on_these_cases": model.optimistic,
        "macro": _estimates(model.macro),
        "labels": [_label(label) for label in model.labels],
    }
    if model.classes is not None:
        found["classes"] = classes_json(model.classes)
    found["provenance"] = plain(context.provenance.get(model.name, {}))
    if model.name in context.localisation:
        found["localisation"] = _localisation(context.localisation[model.name])
    return found


def _label(label: LabelResult) -> dict[str, Any]:
    curve = label.calibration
    return {
        "label": label.label,
        "n": label.cases,
        "positives": label.positives,
        "threshold": {
            "value": number_json(label.point.threshold),
            "rule": label.point.rule,
            "chosen_on": label.point.chosen_on,
            "source": label.point.source,
            "reason": label.point.reason,
        },
        "flow": None if label.flow is None else label.flow._asdict(),
        "counts": None if label.counts is None else {cell: int(n) for cell, n in label.counts._asdict().items()},
        "natural_frequencies": natural_frequencies(label),
        "prevalence": number_json(label.prevalence),
        "metrics": _estimates(label.metrics),
        "calibration": [
            {"mean_score": number_json(score), "n": int(n), "observed": estimate_json(observed)}
            for score, n, observed in zip(curve.mean_score, curve.cases, curve.observed)
        ],
        "calibration_curve": plain(curve.curve._asdict()),
    }


def classes_json(found: ClassResult) -> dict[str, Any]:
    """Return what `report.json` holds of exclusive classes."""
    truth, decision = found.confusion.nonzero()
    return {
        "n": found.cases,
        "unknown_truth": found.unknown,
        "failed_with_known_truth": found.failed,
        "decisions_from_the_table": found.ruled,
        "decisions_not_the_largest_score": found.differing,
        "metrics": _estimates(found.metrics),
        "most_frequent": found.frequent,
        "labels": [
            {"label": label, "n": int(found.confusion[i].sum()), "failed": int(found.failed_truth[i])}
            | {metric: estimate_json(estimates[i]) for metric, estimates in found.per_class.items()}
            for i, label in enumerate(found.labels)
        ],
        # Cells that are not 0: of 400 classes nearly all are.
        "confusion": [
            {"truth": found.labels[i], "decision": found.labels[j], "cases": int(found.confusion[i, j])}
            for i, j in zip(truth, decision)
        ],
    }


def _localisation(found: Localisation) -> dict[str, Any]:
    """Return all metrics; of the curve the corners only."""
    return {"rates": list(RATES)} | plain(asdict(replace(found, froc=corners(found.froc))))


def _comparison(comparison: Comparison) -> dict[str, Any]:
    assert comparison.decisions is not None, "a report compares models at their thresholds"
    decided, found = comparison.classes, {}
    if decided is not None:
        found["classes"] = {
            "n": decided.cases,
            "accuracy_difference": estimate_json(decided.accuracy),
            "only_first_right": decided.only_first,
            "only_second_right": decided.only_second,
            "mcnemar_p": number_json(decided.p),
        }
    return found | {
        "cases": comparison.cases,
        "patients": comparison.patients,
        "requested": comparison.cases + comparison.left_out,
        "left_out": comparison.left_out,
        "failed_first": comparison.failed_first,
        "failed_second": comparison.failed_second,
        "labels_not_shared": list(comparison.not_shared),
        "left_out_of_macro": [each._asdict() for each in comparison.rare],
        "verdict": comparison.verdict,
        "p_over_models_holm": number_json(comparison.p_models),
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
            | _decisions(comparison.decisions, i)
            for i, label in enumerate(comparison.labels)
        ],
        "disagreements": plain(comparison.disagreements.head(LISTED).to_dict("records")),
    }


def _decisions(decided: DecisionComparison, label: int) -> dict[str, Any]:
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


def _estimates(metrics: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: estimate_json(estimate) for name, estimate in metrics.items()}
