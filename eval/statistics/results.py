"""All metrics of an evaluation, computed once: the report page, the JSON and the CSV only show them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from ...core.errors import DataError, UserError
from ...datasets.manifest.tables import SPLITS, Predictions
from ..evaluation import STANDARD, Evaluation
from . import metrics
from .calibration import Calibration, calibration
from .calibration_curve import no_curve
from .calibration_fit import CalibrationFit
from .classes import EXCLUSIVE, MANY, MULTI_LABEL, NOT_FREQUENT, ClassResult, Kind, class_result, detailed_labels, kind
from .compare import Comparison, compare, corrected_for_models
from .delong import delong_interval
from .failures import Flow, failure_metrics, flows
from .intervals import NO_INTERVAL, Estimate, auroc_estimates, believed_macro, estimates
from .likelihood_ratios import likelihood_ratios
from .margins import MarginTest, margin_test
from .matched import Matched, matched_rates
from .metrics import Confusion
from .operating_points import GIVEN, OperatingPoint, choose, transfer
from .resampling import Drawn, PatientBootstrap, Reweighted
from .reservations import LeftOut, left_out_of_all
from .rules import DEFAULT, parse_rule


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
        flow: Its cases from requested to analysed, by truth.
        counts: Cases by truth and predicted label at the threshold; None without one.
    """

    label: str
    cases: int
    positives: int
    metrics: dict[str, Estimate]
    point: OperatingPoint
    calibration: Calibration
    detailed: bool = True
    prevalence: float = float("nan")
    flow: Flow | None = None
    counts: Confusion | None = None


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
        kind: Whether they are, and why.
        notes: What was changed in reading its table, and what is doubtful, in sentences.
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
    kind: Kind
    notes: tuple[str, ...]
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
        matched: Both models at the matched rate, by label, by the name of the other model; empty where none was named.
        margins: The answers to the question with a margin, by the same; empty where none was put.
        splits: Per split `split, patients, cases` and `failed`, a dict by model.
        truths: Per label `label, positive, negative, unknown` among the requested cases of the evaluated
            split.
    """

    evaluation: Evaluation
    models: list[ModelResult]
    comparisons: dict[str, Comparison]
    matched: dict[str, list[Matched]]
    margins: dict[str, MarginTest]
    splits: list[dict]
    truths: list[dict]


def results(
    tables: Mapping[str, Predictions],
    evaluation: Evaluation = STANDARD,
    thresholds: Mapping[str, Mapping[str, float]] | None = None,
    rules: Mapping[str, Mapping[str, str]] | None = None,
) -> Results:
    """Compute everything that the report shows.

    Args:
        tables: Model name to its predictions. The first model is compared with each of the others.
        evaluation: What is evaluated, and how.
        thresholds: Model name to its stored thresholds by label, which hold where `evaluation` has no rule. A model
            without them gets thresholds from the `val` rows of its own table.
        rules: Model name to the rules by which its own thresholds were chosen, by label: those that are taken on the
            `val` rows where `evaluation` has none.

    Raises:
        DataError: A table has no row in `split`, two tables differ in their cases, or a table has decisions but its
            labels are no exclusive classes.
        UserError: No table, stored thresholds for an unknown model, a prevalence or threshold of an unknown label, or a
            rule for thresholds that a table has no `val` rows for.
    """
    if not tables:
        raise UserError("Nothing to evaluate: name at least one predictions table.")
    unknown = set(thresholds or {}) - set(tables)
    if unknown:
        raise UserError(f"Thresholds are given for {min(unknown)!r}, but the models are {', '.join(tables)}.")
    labels = [label for table in tables.values() for label in table.labels]
    prevalences, asked = evaluation.prevalences(labels), evaluation.rules(labels)
    tables = {name: evaluation.said(table) for name, table in tables.items()}
    for table in tables.values():
        _refuse_empty(table, evaluation.split)
        _refuse_rules(table, asked)
    rare = left_out_of_all({name: _smaller(table, evaluation) for name, table in tables.items()})
    models = []
    for name, table in tables.items():
        own = _Thresholds(asked, (thresholds or {}).get(name), (rules or {}).get(name, {}))
        models.append(_model(name, table, own, prevalences, evaluation, rare))
    first, *others = tables
    cuts = {model.name: {row.label: row.point.threshold for row in model.labels} for model in models}
    compared = {
        other: compare(tables[first], tables[other], evaluation, thresholds=(cuts[first], cuts[other]), rare=rare)
        for other in others
    }
    question, rate = evaluation.margin, evaluation.matched
    return Results(
        evaluation=evaluation,
        models=models,
        comparisons=corrected_for_models(compared),
        matched={}
        if rate is None
        else {
            other: matched_rates(tables[first], tables[other], own.labels, rate, evaluation)
            for other, own in compared.items()
        },
        margins={} if question is None else {other: margin_test(own, question) for other, own in compared.items()},
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


def _refuse_rules(table: Predictions, asked: Mapping[str, str]) -> None:
    """Raise where a rule asks for a choice that the table has no validation cases for."""
    for label in table.labels:
        if label in asked and parse_rule(asked[label]).kind != "fixed" and not len(table.rows("val").scored()):
            raise UserError(
                f"{table.path}: the threshold rule {asked[label]!r} chooses on val cases, and this table has no scored "
                "val row. Predict the val split too, name a cut-off, such as 0.31, or name no rule: then thresholds "
                "that are stored with the model hold."
            )


def _split_names(table: Predictions) -> list[str]:
    found = set(table.table["split"])
    return [split for split in SPLITS if split in found] + sorted(found - set(SPLITS))


class _Thresholds(NamedTuple):
    """Where the thresholds of a model come from, by label: asked for, stored with it, or by its own rules."""

    asked: Mapping[str, str]
    stored: Mapping[str, float] | None
    rules: Mapping[str, str]


def _model(
    name: str,
    table: Predictions,
    thresholds: _Thresholds,
    prevalences: Mapping[str, float],
    evaluation: Evaluation,
    rare: Mapping[str, int],
) -> ModelResult:
    asked = table.rows(evaluation.split)
    scored = asked.scored()
    bootstrap = evaluation.bootstrap(scored.table["patient"], scored.truth())
    found = kind(table)
    detailed = replace(table, labels=detailed_labels(table, evaluation.split))
    _refuse_infrequent(table, detailed.labels, evaluation)
    points = _points(detailed, thresholds)
    labels, macro = _details(replace(scored, labels=detailed.labels), points, prevalences, bootstrap, rare)
    if detailed.labels != table.labels:
        plain, macro = _values_only(scored)
        labels = plain | labels  # in the table's order
    labels = _with_failures(labels, asked, points, detailed.labels, evaluation)
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
        classes=class_result(asked, evaluation) if found.exclusive else None,
        kind=found,
        notes=(*table.notes, *_kind_note(found)),
    )


def _kind_note(found: Kind) -> tuple[str, ...]:
    """Say how labels were read that could be read in the other way too."""
    if not found.doubtful:
        return ()
    how, other = ("as exclusive classes", MULTI_LABEL) if found.exclusive else ("each on its own", EXCLUSIVE)
    return (f"The labels are analysed {how}, because {found.reason}; --{other} says otherwise.",)


def _refuse_infrequent(table: Predictions, detailed: Sequence[str], evaluation: Evaluation) -> None:
    """Raise where a threshold or prevalence is named for a class that gets none."""
    for what, given in (("threshold", evaluation.rule), ("prevalence", evaluation.prevalence)):
        for label in given if isinstance(given, Mapping) else ():
            if label in table.labels and label not in detailed:
                raise UserError(f"{table.path}: no {what} is used for {label!r}: {NOT_FREQUENT}. Leave it out.")


def _with_failures(
    labels: Mapping[str, LabelResult], asked: Predictions, points: Sequence[OperatingPoint], detailed: tuple[str, ...],
    evaluation: Evaluation,
) -> dict[str, LabelResult]:  # fmt: skip
    """Return the labels with their way from requested to analysed, and with what failed cases do to the metrics."""
    own = replace(asked, labels=detailed)
    bootstrap = evaluation.bootstrap(asked.table["patient"], asked.truth())
    more = dict(zip(detailed, failure_metrics(own, points, bootstrap)))
    return {
        label: replace(row, flow=flow, metrics=row.metrics | more.get(label, {}))
        for (label, row), flow in zip(labels.items(), flows(asked), strict=True)
    }


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
    predicted = metrics.predicted_labels(scores, np.array([point.threshold for point in points]))
    cells = metrics.confusion_cells(truth, predicted)
    ratios = likelihood_ratios(cells, points, bootstrap.index)
    positives, negatives = metrics.counts(truth)
    labels = {}
    for i, label in enumerate(scored.labels):
        curve = calibration(truth[:, i], scores[:, i], bootstrap)
        own = {metric: found[i] for metric, (found, _) in by_metric.items()}
        own["baseline_accuracy"] = _baseline(int(positives[i]), int(negatives[i]))
        own["auroc_delong"] = delong_interval(truth[:, i], scores[:, i], patients)
        labels[label] = LabelResult(
            label=label,
            cases=int(positives[i] + negatives[i]),
            positives=int(positives[i]),
            metrics=own | at_threshold[i] | ratios[i] | _calibration_metrics(curve),
            point=points[i],
            calibration=curve,
            prevalence=float(wanted[i]),
            counts=None if np.isnan(points[i].threshold) else metrics.Confusion(*(cell[:, i].sum() for cell in cells)),
        )
    return labels, macro


def _baseline(positives: int, negatives: int) -> Estimate:
    """Compute the accuracy of always saying what is more frequent."""
    if not positives + negatives:
        return Estimate(float("nan"), reason=metrics.RATE_REASONS["accuracy"])
    always = "positive" if positives > negatives else "negative"
    return Estimate(max(positives, negatives) / (positives + negatives), reason=f"{NO_INTERVAL}: always {always}")


def _values_only(scored: Predictions) -> tuple[dict[str, LabelResult], dict[str, Estimate]]:
    """Compute the same for many exclusive classes: AUROC, average precision and Brier score without intervals."""
    truth, nan = scored.truth(), float("nan")
    values, why = _rank_values(truth, scored.scores()), metrics.reasons(truth)
    no_interval = f"{NO_INTERVAL}: {NOT_FREQUENT}"
    point = OperatingPoint(nan, "", reason=f"no threshold is chosen: {NOT_FREQUENT}")
    none = Estimate(nan, reason=no_interval)
    empty = Calibration(
        np.empty(0), [], np.empty(0), none, none, CalibrationFit(none, none, none), no_curve(no_interval)
    )
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


def _points(table: Predictions, thresholds: _Thresholds) -> list[OperatingPoint]:
    """Return a threshold per label: the one asked for, else the one stored, else one chosen on the `val` rows."""
    val = table.rows("val").scored()
    truth, scores = val.truth(), val.scores()
    points = []
    for i, label in enumerate(table.labels):
        asked = thresholds.asked.get(label)
        if asked is None and thresholds.stored is not None:
            points.append(_stored(thresholds.stored.get(label)))
            continue
        rule = asked or thresholds.rules.get(label) or DEFAULT
        if len(val) or parse_rule(rule).kind == "fixed":
            points.append(choose(truth[:, [i]], scores[:, [i]], rule)[0])
        else:
            why = "no threshold: the table has no scored val row and the model none stored"
            points.append(OperatingPoint(float("nan"), rule, reason=why))
    return points


def _stored(threshold: float | None) -> OperatingPoint:
    if threshold is None or not np.isfinite(threshold):
        return OperatingPoint(float("nan"), GIVEN, reason="the model has no threshold for it")
    return OperatingPoint(float(threshold), GIVEN)


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
    few = evaluation.bootstrap(scored.table["patient"], scored.truth()).smaller_class(scored.truth())
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
