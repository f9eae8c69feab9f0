"""What the report's section on exclusive classes shows: chosen here, put into words and tables by the template."""

import markupsafe
import numpy as np

from ..statistics.classes import FREQUENT, PER_CLASS, ClassResult
from ..statistics.intervals import Estimate
from ..statistics.results import Results
from .formats import noted
from .matrix import confusion_image, confusion_matrix, matrix_is_wide

MOST_CONFUSED = 12  # pairs of classes listed where the matrix shows no numbers
NAMES = {
    "accuracy": "Accuracy",
    "baseline_accuracy": "Accuracy of always saying the most frequent class",
    "top5_accuracy": "Top-5 accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "kappa": "Cohen’s kappa",
    "mcc": "Matthews correlation (MCC)",
    "accuracy_failed_as_wrong": "Accuracy, failed cases counted as wrong",
}


def class_section(found: Results) -> dict | None:
    """Return the section's contents; None where no model has exclusive classes."""
    models = [(model.name, model.classes) for model in found.models if model.classes is not None]
    if not models:
        return None
    return {
        "models": [_model(*model, f"matrix{i}") for i, model in enumerate(models)],
        "others": [model.name for model in found.models if model.classes is None],
        "metrics": [(name, metric) for metric, name in NAMES.items() if metric in models[0][1].metrics],
        "rates": list(PER_CLASS),
        "marked": any(noted(estimate) for _, own in models for estimate in _shown_estimates(own)),
    }


def undefined_classes(model: str, found: ClassResult) -> dict[tuple[str, str, str], list[str]]:
    """Return what is NaN, by model, class and reason; of many classes only how many they are."""
    lines: dict[tuple[str, str, str], list[str]] = {}
    for metric, estimate in found.metrics.items():
        if np.isnan(estimate.value):
            lines.setdefault((model, "all classes", estimate.reason), []).append(metric)
    for metric, estimates in found.per_class.items():
        missing = [label for label, estimate in zip(found.labels, estimates) if np.isnan(estimate.value)]
        named = [f"{len(missing)} of {len(found.labels)} classes"] if found.many and missing else missing
        for label in named:
            lines.setdefault((model, label, PER_CLASS[metric]), []).append(f"class {metric}")
    return lines


def _model(model: str, found: ClassResult, name: str) -> dict:
    alt = f"Confusion matrix of {model}, truth by decision; the metrics follow."
    return {
        "name": model,
        "classes": found,
        "places": _frequent(found),
        "sizes": found.confusion.sum(axis=1),
        "wide": matrix_is_wide(found.labels),
        "matrix": "" if found.many else markupsafe.Markup(confusion_matrix(found.confusion, found.labels, name, alt)),
        "image": confusion_image(found.confusion) if found.many else "",
        "confused": _confused(found),
    }


def _frequent(found: ClassResult) -> list[int]:
    """Return the places of the classes shown one by one, in the table's order."""
    if not found.many:
        return list(range(len(found.labels)))
    return sorted(np.argsort(-found.confusion.sum(axis=1), kind="stable")[:FREQUENT].tolist())


def _confused(found: ClassResult) -> list[tuple[str, str, int, int]]:
    """Return the most frequent confusions: truth, decision, how many cases, of how many with that truth."""
    wrong = found.confusion - np.diag(found.confusion.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_CONFUSED]
    pairs = np.column_stack(np.unravel_index(order, wrong.shape))
    return [
        (found.labels[i], found.labels[j], int(wrong[i, j]), int(found.confusion[i].sum()))
        for i, j in pairs
        if wrong[i, j]
    ]


def _shown_estimates(found: ClassResult) -> list[Estimate]:
    own = [estimates[place] for estimates in found.per_class.values() for place in _frequent(found)]
    return [*found.metrics.values(), *own]
