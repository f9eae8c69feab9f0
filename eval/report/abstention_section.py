"""The report's section on what is left to the reader: triage by two thresholds, and conformal sets."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from ...core.errors import UserError
from ...datasets.manifest.tables import Predictions
from ..evaluation import Evaluation
from ..statistics.classes import detailed_labels, exclusive, true_classes
from ..statistics.conformal_sets import ConformalSets, class_sets, finding_sets
from ..statistics.triage import EVERY, Cut, Triage, triage
from .formats import many, number
from .metrics_json import estimate_json, number_json
from .section import MetricRow, Section

METHODS = {
    "triage": (
        "Triage: both thresholds are chosen on the validation cases, one random case of each patient. Exact binomial "
        "tests go threshold by threshold from few decided cases to many and stop at the first that fails "
        "(fixed-sequence testing), each side at half of the stated error. The promise is of new patients of the same "
        "kind, if higher scores are no less often positive. The test cases only show what came of it."
    ),
    "sets": (
        "Conformal sets: split-conformal, with one minus the score of the class as misfit, calibrated on one random "
        "validation case of each patient; of a finding by its presence and absence, of exclusive classes together."
    ),
}


def abstention_section(tables: Mapping[str, Predictions], evaluation: Evaluation) -> Section | None:
    """Return the section after "Operating points"; None where neither triage nor sets are asked for.

    Args:
        tables: Model name to its predictions.
        evaluation: The split, what is promised, and the coverage of the sets.

    Raises:
        UserError: A table has no scored validation case.
    """
    if evaluation.triage is None and evaluation.coverage is None:
        return None
    for table in tables.values():
        if not len(table.rows("val").scored()):
            raise UserError(
                f"{table.path}: --triage and --sets choose on validation cases, and this table has no scored val row. "
                "Predict the val split too; on the cases that are judged nothing may be chosen."
            )
    cuts = {name: _triages(table, evaluation) for name, table in tables.items()}
    sets = {name: _sets(table, evaluation) for name, table in tables.items()}
    rows = [row for name, own in cuts.items() for label, found in own.items() for row in _cut_rows(name, label, found)]
    rows += [row for name, own in sets.items() for found in own for row in _set_rows(name, found)]
    asked = {"triage": evaluation.triage is not None, "sets": evaluation.coverage is not None}
    return Section(
        anchor="abstention",
        title="Left to the reader",
        after="thresholds",
        content={
            "promise": evaluation.triage,
            "coverage": evaluation.coverage,
            "cuts": cuts,
            "sets": sets,
            "shown": _shown,
            "sentence": _sentence,
        },
        plain={
            "promise": None if evaluation.triage is None else asdict(evaluation.triage),
            "coverage": evaluation.coverage,
            "models": [
                {
                    "model": name,
                    "triage": [_cut_json(label, found) for label, found in cuts[name].items()],
                    "sets": [_set_json(found) for found in sets[name]],
                }
                for name in tables
            ],
        },
        metrics=rows,
        methods=" ".join(words for name, words in METHODS.items() if asked[name]),
    )


def _triages(table: Predictions, evaluation: Evaluation) -> dict[str, Triage]:
    if evaluation.triage is None:
        return {}
    val, test = table.rows("val").scored(), table.rows(evaluation.split)  # a failed case is left to the reader too
    bootstrap = evaluation.bootstrap(test.table["patient"], test.truth())
    found = {}
    for label in detailed_labels(table, evaluation.split):
        i = table.labels.index(label)
        chosen = val.truth()[:, i], val.scores()[:, i], val.table["patient"]
        judged = test.truth()[:, i], test.scores()[:, i]
        found[label] = triage(chosen, judged, bootstrap, evaluation.triage, evaluation.seed)
    return found


def _sets(table: Predictions, evaluation: Evaluation) -> list[ConformalSets]:
    if evaluation.coverage is None:
        return []
    val, test = table.rows("val").scored(), table.rows(evaluation.split).scored()
    bootstrap = evaluation.bootstrap(test.table["patient"], test.truth())
    patients, settings = val.table["patient"], (bootstrap, evaluation.coverage, evaluation.seed)
    if exclusive(table):
        chosen, judged = (true_classes(val), val.scores(), patients), (true_classes(test), test.scores())
        return [class_sets(table.labels, chosen, judged, *settings)]
    return [
        finding_sets(
            label, (val.truth()[:, i], val.scores()[:, i], patients), (test.truth()[:, i], test.scores()[:, i]),
            *settings,
        )
        for i, label in enumerate(table.labels)
    ]  # fmt: skip


def _shown(cut: Cut) -> str:
    """Return a threshold as the page shows it."""
    if np.isnan(cut.threshold):
        return "–"
    return "every case" if cut.threshold == EVERY else number(cut.threshold)


def _sentence(found: Triage, label: str) -> str:
    """Say what became of the evaluated cases of one label."""
    counts, called = found.counts, found.counts["called_positive"] + found.counts["called_negative"]
    whole = called + counts["left"]
    if not whole:
        return f"{label}: no case with known truth."
    if not called:
        return f"{label}: all {many(whole, 'case')} are left to the reader."
    return (
        f"{label}: {called:,} of {many(whole, 'case')} ({100 * called / whole:.0f} %) are decided, of these "
        f"{counts['true_positive'] + counts['true_negative']:,} rightly; {counts['left']:,} "
        f"({100 * counts['left'] / whole:.0f} %) are left to the reader."
    )


def _cut_rows(model: str, label: str, found: Triage) -> Sequence[MetricRow]:
    cases = sum(found.counts[name] for name in ("called_positive", "called_negative", "left"))
    return [MetricRow(model, label, f"triage_{name}", estimate, cases) for name, estimate in found.metrics.items()]


def _set_rows(model: str, found: ConformalSets) -> Sequence[MetricRow]:
    return [MetricRow(model, found.label, f"sets_{name}", estimate) for name, estimate in found.metrics.items()]


def _cut_json(label: str, found: Triage) -> dict:
    return {
        "label": label,
        "patients": found.patients,
        "upper": _one_cut(found.upper),
        "lower": _one_cut(found.lower),
        "counts": found.counts,
        "metrics": {name: estimate_json(estimate) for name, estimate in found.metrics.items()},
    }


def _one_cut(cut: Cut) -> dict:
    return asdict(cut) | {"threshold": number_json(cut.threshold)}


def _set_json(found: ConformalSets) -> dict:
    return {
        "label": found.label,
        "classes": list(found.classes),
        "least_scores": [number_json(max(0.0, 1 - limit)) for limit in found.limits],
        "calibrated_on": found.calibrated.tolist(),
        "mean_size": number_json(found.mean_size),
        "metrics": {name: estimate_json(estimate) for name, estimate in found.metrics.items()},
    }
