"""All metrics of an evaluation, computed once: the report page, the JSON and the CSV only show them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ...core.errors import DataError, UserError
from ...datasets.manifest.tables import SPLITS, Predictions
from ..evaluation import STANDARD, Evaluation
from . import metrics
from .calibration import Calibration, calibration
from .calibration_fit import CalibrationFit
from .classes import MANY, NOT_FREQUENT, ClassResult, class_result, detailed_labels, exclusive
from .compare import Comparison, compare, corrected_for_models
from .delong import delong_interval
from .intervals import NO_INTERVAL, Estimate, auroc_estimates, believed_macro, estimates
from .operating_points import OperatingPoint, choose, transfer
from .resampling import Drawn, PatientBootstrap, Reweighted
from .reservations import LeftOut, left_out_of_all


@dataclass(frozen=True)
class LabelResult:
    """One model's metrics for one label.

    Attributes:
        cases, positives: Scored cases with known truth, and the positive ones among them.
        metrics: By metric name.
        point: The threshold behind sensitivity and the like.
        detailed: Whether intervals, threshold and calibration were computed; of many exclusive classes only the most
            frequent get them.
        prevalence: At which the metrics `ppv_at_prevalence` and `npv_at_prevalence` are; NaN where they are not.
    """

    label: str
    cases: int
    positives: int
    metrics: dict[str, Estimate]
    point: OperatingPoint
    calibration: Calibration
    detailed: bool = True
    prevalence: float = float("nan")


@dataclass(frozen=True)
class ModelResult:
    """One model's metrics on the evaluated split.

    Attributes:
        table: The scored cases.
        truth, scores: (N, L) of these.
        failed: The cases that failed, with their reasons.
        patients: Patients with a scored case.
        macro: Means over the labels that are defined and not left out, by metric name.
        defined: How many labels the macro AUROC is over.
        left_out: Labels that no mean includes, in any model: too few patients with or without them.
        optimistic: Whether the thresholds were chosen on these same cases.
        classes: The decisions, where the labels are exclusive classes.
    """

    name: str
    table: pd.DataFrame
    truth: np.ndarray
    scores: np.ndarray
    failed: pd.DataFrame
    patients: int
    labels: list[LabelResult]
    macro: dict[str, Estimate]
    defined: int
    optimistic: bool
    classes: ClassResult | None
    left_out: tuple[LeftOut, ...] = ()

    @property
    def requested(self) -> int:
        """Count the cases asked for: scored and failed."""
        return len(self.table) + len(self.failed)


@dataclass(frozen=True)
class Results:
    """An evaluation: one or more models on one split, and the first compared with each other one.

    Attributes:
        evaluation: Its settings.
        models: In the order given.
        comparisons: By the name of the other model.
        splits: Per split `split, patients, cases` and `failed`, a dict by model.
        truths: Per label `label, positive, negative, unknown` among the requested cases of the evaluated
            split.
    """

    evaluation: Evaluation
    models: list[ModelResult]
    comparisons: dict[str, Comparison]
    splits: list[dict]
    truths: list[dict]


def results(
    tables: Mapping[str, Predictions],
    evaluation: Evaluation = STANDARD,
    thresholds: Mapping[str, Mapping[str, float]] | None = None,
) -> Results:
    """Compute everything that the report shows.

    Args:
        tables: Model name to its predictions. The first model is compared with each of the others.
        evaluation: What is evaluated, and how.
        thresholds: Model name to its stored thresholds by label. A model without them gets thresholds by
            the rule from the `val` rows of its own table.

    Raises:
        DataError: A table has no row in `split`, two tables differ in their cases, or a table has decisions but its
            labels are no exclusive classes.
        UserError: No table, stored thresholds for an unknown model, or a prevalence of an unknown label.
    """
    if not tables:
        raise UserError("Nothing to evaluate: name at least one predictions table.")
    unknown = set(thresholds or {}) - set(tables)
    if unknown:
        raise UserError(f"Thresholds are given for {min(unknown)!r}, but the models are {', '.join(tables)}.")
    prevalences = evaluation.prevalences([label for table in tables.values() for label in table.labels])
    for table in tables.values():
        _refuse_empty(table, evaluation.split)
    rare = left_out_of_all({name: _smaller(table, evaluation) for name, table in tables.items()})
    models = [
        _model(name, table, (thresholds or {}).get(name), prevalences, evaluation, rare)
        for name, table in tables.items()
    ]
    first, *others = tables
    cuts = {model.name: {row.label: row.point.threshold for row in model.labels} for model in models}
    return Results(
        evaluation=evaluation,
        models=models,
        comparisons=corrected_for_models(
            {
                other: compare(
                    tables[first], tables[other], evaluation, thresholds=(cuts[first], cuts[other]), rare=rare
                )
                for other in others
            }
        ),
        splits=_splits(tables),
        truths=_truths(tables, evaluation.split),
    )


def wrong_cases(model: ModelResult, label: int, most: int) -> dict[str, pd.DataFrame]:
    """Return the most wrong cases of a label: `missed` (present, lowest scores), `false_alarms` (the reverse).

    Where the label has a threshold, only cases on the wrong side of it count. Columns `id, patient, score`.
    """
    truth, score = model.truth[:, label], model.scores[:, label]
    threshold = model.labels[label].point.threshold
    predicted = score >= threshold
    missed = (truth == 1) & (~predicted | np.isnan(threshold))
    alarms = (truth == 0) & (predicted | np.isnan(threshold))
    cases = pd.DataFrame({"id": model.table["id"], "patient": model.table["patient"], "score": score})
    return {
        "missed": cases[missed].sort_values("score", kind="stable").head(most),
        "false_alarms": cases[alarms].sort_values("score", ascending=False, kind="stable").head(most),
    }


def _refuse_empty(table: Predictions, split: str) -> None:
    found = _split_names(table)
    if split not in found:
        raise DataError(
            f"{table.path}: no case in split {split!r}; it has {', '.join(map(repr, found))}. Name "
            "one of these with --split, or predict the split that you mean."
        )


def _split_names(table: Predictions) -> list[str]:
    found = set(table.table["split"])
    return [split for split in SPLITS if split in found] + sorted(found - set(SPLITS))


def _model(
    name: str,
    table: Predictions,
    given: Mapping[str, float] | None,
    prevalences: Mapping[str, float],
    evaluation: Evaluation,
    rare: Mapping[str, int],
) -> ModelResult:
    asked = table.rows(evaluation.split)
    scored = asked.scored()
    bootstrap = evaluation.bootstrap(scored.table["patient"], scored.truth())
    detailed = replace(table, labels=detailed_labels(table, evaluation.split))
    points = _points(detailed, given, evaluation.rule)
    labels, macro = _details(replace(scored, labels=detailed.labels), points, prevalences, bootstrap, rare)
    if detailed.labels != table.labels:
        plain, macro = _values_only(scored, evaluation.rule)
        labels = plain | labels  # in the table's order
    truth = scored.truth()
    positives, negatives = metrics.counts(truth)
    every = detailed.labels != table.labels  # classes so many that no mean has an interval
    kept = [] if every else [label for label in table.labels if label not in rare]
    return ModelResult(
        name=name,
        table=scored.table,
        truth=truth,
        scores=scored.scores(),
        failed=asked.failed().table[["id", "patient", "reason"]],
        patients=bootstrap.size,
        labels=list(labels.values()),
        macro=macro,
        defined=len(kept) or int(((positives > 0) & (negatives > 0)).sum()),
        left_out=tuple(LeftOut(label, rare[label]) for label in table.labels if label in rare) if kept else (),
        optimistic=any(point.chosen_on == evaluation.split for point in points),
        classes=class_result(asked, evaluation) if exclusive(table) else None,
    )


def _details(
    scored: Predictions,
    points: list[OperatingPoint],
    prevalences: Mapping[str, float],
    bootstrap: PatientBootstrap,
    rare: Mapping[str, int],
) -> tuple[dict[str, LabelResult], dict[str, Estimate]]:
    """Compute everything by label, and the macro means."""
    truth, scores, patients = scored.truth(), scored.scores(), scored.table["patient"]
    by_metric = _rank_metrics(truth, scores, bootstrap)
    kept, few = np.array([label not in rare for label in scored.labels]), bootstrap.smaller_class(truth)
    macro = {metric: _macro(found, drawn, few, kept) for metric, (found, drawn) in by_metric.items()}
    wanted = np.array([prevalences.get(label, np.nan) for label in scored.labels])
    at_threshold = transfer(truth, scores, points, bootstrap, wanted)
    positives, negatives = metrics.counts(truth)
    labels = {}
    for i, label in enumerate(scored.labels):
        curve = calibration(truth[:, i], scores[:, i], bootstrap)
        own = {metric: found[i] for metric, (found, _) in by_metric.items()}
        own["auroc_delong"] = delong_interval(truth[:, i], scores[:, i], patients)
        labels[label] = LabelResult(
            label=label,
            cases=int(positives[i] + negatives[i]),
            positives=int(positives[i]),
            metrics=own | at_threshold[i] | _calibration_metrics(curve),
            point=points[i],
            calibration=curve,
            prevalence=float(wanted[i]),
        )
    return labels, macro


def _values_only(scored: Predictions, rule: str) -> tuple[dict[str, LabelResult], dict[str, Estimate]]:
    """Compute the same for many exclusive classes: AUROC, average precision and Brier score without intervals."""
    truth, nan = scored.truth(), float("nan")
    values, why = _rank_values(truth, scored.scores()), metrics.reasons(truth)
    no_interval = f"{NO_INTERVAL}: {NOT_FREQUENT}"
    point = OperatingPoint(nan, rule, reason=f"no threshold is chosen: {NOT_FREQUENT}")
    none = Estimate(nan, reason=no_interval)
    empty = Calibration(np.empty(0), [], np.empty(0), none, none, CalibrationFit(none, none, none))
    positives, negatives = metrics.counts(truth)
    labels = {
        label: LabelResult(
            label=label,
            cases=int(positives[i] + negatives[i]),
            positives=int(positives[i]),
            metrics={metric: Estimate(float(v[i]), reason=why[i] or no_interval) for metric, v in values.items()},
            point=point,
            calibration=empty,
            detailed=False,
        )
        for i, label in enumerate(scored.labels)
    }
    means = {metric: metrics.macro(v)[0] for metric, v in values.items()}
    reason = f"{NO_INTERVAL}: more than {MANY} classes"
    return labels, {metric: Estimate(mean, reason=reason) for metric, mean in means.items()}


def _points(table: Predictions, given: Mapping[str, float] | None, rule: str) -> list[OperatingPoint]:
    nan = float("nan")
    if given is not None:
        return [
            OperatingPoint(float(given[label]), "given")
            if given.get(label) is not None and np.isfinite(given[label])
            else OperatingPoint(nan, "given", reason="the model has no threshold for it")
            for label in table.labels
        ]
    val = table.rows("val").scored()
    points = choose(val.truth(), val.scores(), rule)
    if len(val) or rule == "0.5":
        return points
    why = "no threshold: the table has no scored val row and the model none stored"
    return [OperatingPoint(nan, rule, reason=why)] * len(points)


def _rank_metrics(
    truth: np.ndarray, scores: np.ndarray, bootstrap: PatientBootstrap
) -> dict[str, tuple[list[Estimate], Drawn]]:
    """Compute AUROC, average precision and Brier score: L estimates and the draws behind them."""
    why, few = metrics.reasons(truth), bootstrap.smaller_class(truth)
    drawn = bootstrap.drawn(lambda weights: weights.ranks(truth, scores) | _brier_drawn(truth, scores, weights))
    return {
        metric: (
            auroc_estimates(truth, value, drawn[metric], why, bootstrap)
            if metric == "auroc"
            else estimates(value, drawn[metric], why, few),
            drawn[metric],
        )
        for metric, value in _rank_values(truth, scores).items()
    }


def _brier_drawn(truth: np.ndarray, scores: np.ndarray, weights: Reweighted) -> dict[str, np.ndarray]:
    sums = weights.sums(np.concatenate([(scores - truth) ** 2, ~np.isnan(truth)], axis=1))
    return {"brier": metrics.ratio(*np.split(sums, 2, axis=1))}


def _rank_values(truth: np.ndarray, scores: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "auroc": metrics.auroc(truth, scores),
        "average_precision": metrics.average_precision(truth, scores),
        "brier": metrics.brier(truth, scores),
    }


def _macro(found: list[Estimate], drawn: Drawn, few: np.ndarray, kept: np.ndarray) -> Estimate:
    """Return the mean over the labels that are kept; of one label, its own metric; else the reason that all share."""
    if len(found) == 1:
        return found[0]
    values, why = np.array([estimate.value for estimate in found]), {estimate.reason for estimate in found}
    shared = why.pop() if len(why) == 1 else "no finding has both positive and negative cases"
    return believed_macro(values, drawn, few, kept, shared)


def _smaller(table: Predictions, evaluation: Evaluation) -> dict[str, int]:
    """Count the patients in the smaller class of each label, among the scored cases."""
    scored = table.rows(evaluation.split).scored()
    few = PatientBootstrap(scored.table["patient"]).smaller_class(scored.truth())
    return dict(zip(table.labels, few.tolist()))


def _calibration_metrics(curve: Calibration) -> dict[str, Estimate]:
    return {
        "calibration_error": curve.error,
        "calibration_error_by_chance": curve.by_chance,
        "calibration_in_the_large": curve.fit.in_the_large,
        "calibration_slope": curve.fit.slope,
        "calibration_intercept": curve.fit.intercept,
    }


def _splits(tables: Mapping[str, Predictions]) -> list[dict]:
    first = next(iter(tables.values()))
    return [
        {
            "split": split,
            "patients": int(first.rows(split).table["patient"].nunique()),
            "cases": len(first.rows(split)),
            "failed": {name: len(table.rows(split).failed()) for name, table in tables.items()},
        }
        for split in _split_names(first)
    ]


def _truths(tables: Mapping[str, Predictions], split: str) -> list[dict]:
    asked = next(iter(tables.values())).rows(split)
    truth = asked.truth()
    positive, negative = metrics.counts(truth)
    return [
        {"label": label, "positive": int(p), "negative": int(n), "unknown": len(asked) - int(p + n)}
        for label, p, n in zip(asked.labels, positive, negative)
    ]
