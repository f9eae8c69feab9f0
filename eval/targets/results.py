"""All metrics of an evaluation of numbers, grades or times, computed once: page, JSON and CSV only show them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ...core.errors import DataError, UserError
from ...datasets.manifest.tables import SPLITS, Predictions, Target
from ..evaluation import STANDARD, Evaluation
from ..statistics.compare import same_cases
from ..statistics.holm import holm
from ..statistics.intervals import Estimate
from .analysis import Analysis, TimeAnalysis, analysis
from .measured import Measured


@dataclass(frozen=True, eq=False)
class TargetResult:
    """One model's metrics for one target.

    Attributes:
        analysis: What was measured.
        table: The scored cases with known truth.
        truth: (N, T) of these.
        patients: Of these.
        unknown: Scored cases whose truth is not known.
        failed: Cases that failed although their truth is known.
        metrics: By key.
    """

    analysis: Analysis
    table: pd.DataFrame
    truth: np.ndarray
    patients: int
    unknown: int
    failed: int
    metrics: dict[str, Estimate]

    @property
    def target(self) -> Target:
        """Return the target."""
        return self.analysis.target


@dataclass(frozen=True, eq=False)
class TargetModel:
    """One model on the evaluated split.

    Attributes:
        targets: Its results, in the table's order.
        failed: `id, patient, reason` of the cases that failed.
        requested, scored: Cases.
        notes: What was changed in reading its table, and what is doubtful.
    """

    name: str
    targets: list[TargetResult]
    failed: pd.DataFrame
    requested: int
    scored: int
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class TargetComparison:
    """The first model minus another on the cases that both scored, of one target.

    Attributes:
        first, second: Names.
        target: Its name.
        cases, patients: Scored by both, truth known.
        left_out: Cases of the split that are not.
        differences: By metric.
        p: By metric, of the bootstrap by patient.
        adjusted: The p of the main metric, corrected by Holm for all comparisons of the report.
    """

    first: str
    second: str
    target: str
    cases: int
    patients: int
    left_out: int
    differences: dict[str, Estimate]
    p: dict[str, float]
    adjusted: float = float("nan")


@dataclass(frozen=True, eq=False)
class TargetResults:
    """An evaluation: one or more models, and the first compared with each other one.

    Attributes:
        evaluation: Its settings.
        models: In the order given.
        comparisons: Of the first with each other one, target by target.
        splits: Per split `split, patients, cases` and `failed`, a dict by model.
    """

    evaluation: Evaluation
    models: list[TargetModel]
    comparisons: list[TargetComparison]
    splits: list[dict]


def target_results(tables: Mapping[str, Predictions], evaluation: Evaluation = STANDARD) -> TargetResults:
    """Compute everything that the report of numbers, grades or times shows.

    Args:
        tables: Model name to its predictions. The first model is compared with each of the others.
        evaluation: The split, and how intervals are made.

    Raises:
        DataError: A table has no row in the split, or two tables differ in their cases or truth.
        UserError: A setting is for findings.
    """
    refuse_settings(evaluation)
    for name, table in tables.items():
        found = set(table.table["split"])
        if evaluation.split not in found:
            raise DataError(
                f"{table.path}: no case in split {evaluation.split!r}; it has {', '.join(map(repr, sorted(found)))}. "
                "Name one of these with --split, or predict the split that you mean."
            )
        if not table.targets:
            raise UserError(f"{name}: findings, and other tables are of numbers, grades or times: evaluate them apart.")
    first, *others = tables
    models = [_model(name, table, evaluation) for name, table in tables.items()]
    compared = [
        own for other in others for own in compared_targets(first, tables[first], other, tables[other], evaluation)
    ]
    return TargetResults(evaluation, models, _corrected(compared), _splits(tables))


def refuse_settings(evaluation: Evaluation) -> None:
    """Raise where something is asked for that is only of findings.

    Raises:
        UserError: Says which.
    """
    asked = {
        "--threshold": evaluation.rule, "--prevalence": evaluation.prevalence,
        "--exclusive, --multi-label": evaluation.kind,
        "--matched": evaluation.matched, "--non-inferiority, --equivalence": evaluation.margin,
        "--triage": evaluation.triage, "--sets": evaluation.coverage, "--sites": evaluation.sites,
        "--weights": evaluation.weights, "--subgroups": evaluation.subgroups,
        "--stratify": evaluation.stratify or None,
    }  # fmt: skip
    for option, value in asked.items():
        if value is not None:
            raise UserError(f"{option}: for findings, not for numbers, grades or times: leave it out.")


def compared_targets(
    first: str, a: Predictions, second: str, b: Predictions, evaluation: Evaluation = STANDARD
) -> list[TargetComparison]:
    """Compare two models on the cases that both scored, by the same resamples of patients.

    Raises:
        DataError: The cases differ, a truth does, or no target is shared.
    """
    theirs = {each.name: each for each in b.targets}
    shared = [each for each in a.targets if each.name in theirs and theirs[each.name].kind == each.kind]
    if not shared:
        raise DataError(f"{a.path} and {b.path}: no target in common, so there is nothing to compare.")
    one, two = same_cases(a, b, (), evaluation.split)
    found = []
    for target in shared:
        _refuse_other_truth(a, b, one, two, target)
        truth = one[list(target.truth)].to_numpy(np.float64)
        kept = ((one["status"] == "ok") & (two["status"] == "ok")).to_numpy() & ~np.isnan(truth).any(axis=1)
        rows = one["patient"][kept]
        bootstrap = evaluation.bootstrap(rows, truth[kept])
        own = analysis(target, truth[kept])
        other = analysis(theirs[target.name], truth[kept], own.times if isinstance(own, TimeAnalysis) else None)
        measured = [
            each.measured(truth[kept], table[kept].reset_index(drop=True), bootstrap)
            for each, table in ((own, one), (other, two))
        ]
        differences, p = measured[0].minus(measured[1])
        found.append(
            TargetComparison(
                first, second, target.name, int(kept.sum()), bootstrap.size, int((~kept).sum()), differences, p
            )
        )
    return found


def _model(name: str, table: Predictions, evaluation: Evaluation) -> TargetModel:
    asked = table.rows(evaluation.split)
    failed = asked.failed().table[["id", "patient", "reason"]]
    found = [_target(asked, target, evaluation) for target in table.targets]
    return TargetModel(name, found, failed, len(asked), len(asked.scored()), table.notes)


def _target(asked: Predictions, target: Target, evaluation: Evaluation) -> TargetResult:
    truth = asked.table[list(target.truth)].to_numpy(np.float64)
    known, scored = ~np.isnan(truth).any(axis=1), (asked.table["status"] == "ok").to_numpy()
    own, rows = truth[known & scored], asked.table[known & scored].reset_index(drop=True)
    bootstrap, what = evaluation.bootstrap(rows["patient"], own), analysis(target, own)
    measured: Measured = what.measured(own, rows, bootstrap)
    return TargetResult(
        what, rows, own, bootstrap.size, int((scored & ~known).sum()), int((known & ~scored).sum()),
        measured.estimates(),
    )  # fmt: skip


def _refuse_other_truth(a: Predictions, b: Predictions, one: pd.DataFrame, two: pd.DataFrame, target: Target) -> None:
    for column in target.truth:
        left, right = one[column], two[column]
        differ = np.flatnonzero((left != right) & ~(left.isna() & right.isna()))
        if len(differ):
            raise DataError(
                f"{a.path} and {b.path}: {column} of case {one['id'].iloc[differ[0]]!r} is {left.iloc[differ[0]]:g} in "
                f"one and {right.iloc[differ[0]]:g} in the other ({len(differ)} such cases). Predict both from the "
                "same manifest."
            )


def _corrected(compared: list[TargetComparison]) -> list[TargetComparison]:
    p = holm(np.array([next(iter(each.p.values())) for each in compared]))
    return [replace(each, adjusted=float(own)) for each, own in zip(compared, p)]


def _splits(tables: Mapping[str, Predictions]) -> list[dict]:
    first = next(iter(tables.values()))
    found = set(first.table["split"])
    return [
        {
            "split": split,
            "patients": int(first.rows(split).table["patient"].nunique()),
            "cases": len(first.rows(split)),
            "failed": {name: len(table.rows(split).failed()) for name, table in tables.items()},
        }
        for split in [each for each in SPLITS if each in found] + sorted(found - set(SPLITS))
    ]
