"""One model by groups of cases: by sex, age, view, scanner, or any other column of the manifest.

Each group has its metrics, and is compared with all other cases. That a difference is real does not make the model its
cause: groups differ in their cases too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from ...core.errors import DataError
from ...datasets.manifest.tables import Predictions
from ..evaluation import STANDARD, Evaluation
from . import metrics
from .classes import MANY, NO_TRUTH, baseline_accuracy, decided_classes, exclusive, true_classes
from .groups import Group, groups, refuse_columns, texts
from .holm import holm
from .intervals import NO_INTERVAL, Estimate, believed_macro, proportions
from .operating_points import OperatingPoint
from .resampling import Drawn
from .reservations import FEW, too_few
from .subgroup_metrics import GroupedCases, RatedLabel, rated_label
from .unpaired import Gaps, differences, mean_gaps

NOT_SHARED = f"too few findings with {FEW} patients or more in both classes, here and among all others"
_SHARE = 0.5  # of the findings that all cases have enough patients for: a group with fewer gets no mean


class Contrast(NamedTuple):
    """A group minus all other cases.

    Attributes:
        difference: Of the metric, with its interval.
        p: Two-sided; NaN without an interval, or with fewer than 10 patients in a class here or among all others.
        adjusted: By Holm, over all groups of all columns.
    """

    difference: Estimate
    p: float
    adjusted: float


@dataclass(frozen=True)
class LabelMetrics:
    """One label in one group.

    Attributes:
        patients, cases, positives: Scored, with known truth.
        smaller_class: Patients with a positive case or with a negative one, whichever are fewer.
        metrics: `auroc`, `sensitivity` and `specificity` at the model's threshold, and `mean_score_minus_prevalence`,
            which is above 0 where scores are too high.
        contrast: Of the AUROC.
    """

    label: str
    patients: int
    cases: int
    positives: int
    smaller_class: int
    metrics: dict[str, Estimate]
    contrast: Contrast


@dataclass(frozen=True)
class Subgroup:
    """One group.

    Attributes:
        column, name: Where it is from; empty and "all cases" for these.
        patients, cases: Scored.
        failed: Cases that were not.
        metrics: Over all labels: `macro_auroc`, and of exclusive classes `accuracy` beside `baseline_accuracy`, that of
            always saying the group's most frequent class; empty for one label.
        contrasts: Of these.
        defined, small: Labels with an AUROC, and those of them with fewer than 10 patients in the smaller class.
        mean_of: Labels that the macro AUROC is over: the same in all groups of a column that are compared.
        labels: By label; empty for exclusive classes.
    """

    column: str
    name: str
    patients: int
    cases: int
    failed: int
    metrics: dict[str, Estimate]
    contrasts: dict[str, Contrast]
    defined: int
    small: int
    mean_of: tuple[str, ...]
    labels: list[LabelMetrics]


@dataclass(frozen=True)
class Subgroups:
    """One model's subgroups.

    Attributes:
        columns: That the groups are of.
        whole: All cases together, compared with nothing.
        groups: In the order of the columns.
        comparisons: Tests made, over all labels; the two groups of a column that has no third are one.
        not_in_manifest: Requested cases that are not in the manifest, which count as not recorded.
    """

    columns: tuple[str, ...]
    whole: Subgroup
    groups: list[Subgroup]
    comparisons: int
    not_in_manifest: int


def subgroups(
    tables: Mapping[str, Predictions],
    columns: pd.DataFrame,
    names: Sequence[str],
    points: Mapping[str, Sequence[OperatingPoint]],
    evaluation: Evaluation = STANDARD,
) -> dict[str, Subgroups]:
    """Compute the metrics of each model by groups of cases (`groups.groups`).

    The AUROC of a group minus that of all other cases is tested (`unpaired.differences`), and p is adjusted by Holm
    over all groups of all columns, for each label and for the macro mean; of exclusive classes the accuracy is too.

    Args:
        tables: Model name to its predictions.
        columns: What is known of the cases, by id (`groups.manifest_columns`).
        names: Columns to group by, at least one.
        points: Model name to its operating points, one per label; unused where the labels are exclusive classes.
        evaluation: The split, and how intervals within a group are made.

    Raises:
        UserError: A column is not there, is named twice, or makes no groups.
        DataError: A column stands twice, or none of a table's cases is known.
    """
    refuse_columns(columns, names)
    return {name: _of_model(table, columns, names, points.get(name, ()), evaluation) for name, table in tables.items()}


def _of_model(
    table: Predictions,
    columns: pd.DataFrame,
    names: Sequence[str],
    points: Sequence[OperatingPoint],
    evaluation: Evaluation,
) -> Subgroups:
    asked, classes = table.rows(evaluation.split), exclusive(table)
    parted, absent = _groups(asked, columns, names)
    cases = _cases(asked, parted, evaluation)
    labels = () if classes else table.labels
    assert len(points) == len(labels) or classes
    rated = [] if classes and len(table.labels) > MANY else [
        rated_label(cases, i, None if classes else points[i]) for i in range(len(table.labels))
    ]  # fmt: skip
    by_label = [_family(cases, each.gaps, each.smaller.min(axis=1)) for each in rated[: len(labels)]]
    shared = _shared(rated, [column for column, _ in parted]) if len(rated) > 1 else np.zeros((len(parted), 0), bool)
    metrics, families = _overall(cases, rated, asked.scored() if classes else None, shared)
    ok = (asked.table["status"] == "ok").to_numpy()
    found = [
        Subgroup(
            column=column,
            name=group.name,
            patients=cases.bootstrap.having(group.rows[ok]),
            cases=int((group.rows & ok).sum()),
            failed=int((group.rows & ~ok).sum()),
            metrics={name: each[g] for name, each in metrics.items()},
            contrasts={name: each[g] for name, each in families.items()},
            defined=sum(not np.isnan(each.auroc[g]) for each in rated),
            small=sum(not np.isnan(each.auroc[g]) and each.smaller[g, 0] < FEW for each in rated),
            mean_of=tuple(label for label, inside in zip(table.labels, shared[g]) if inside),
            labels=[_label(cases, i, g, label, rated[i], by_label[i][g]) for i, label in enumerate(labels)],
        )
        for g, (column, group) in enumerate(parted)
    ]
    made = [each.p for family in (*families.values(), *by_label) for each, again in zip(family, cases.mirrored)
            if not again]  # fmt: skip
    return Subgroups(tuple(names), found[0], found[1:], int((~np.isnan(made)).sum()), absent)


def _overall(
    cases: GroupedCases, rated: Sequence[RatedLabel], classes: Predictions | None, shared: np.ndarray
) -> tuple[dict[str, list[Estimate]], dict[str, list[Contrast]]]:
    """Compute metrics over all labels, and their contrasts, of G groups each.

    `classes` is the scored table where the labels are exclusive, `shared` (G, L) the labels of each group's mean.
    """
    metrics, families = {}, {}
    if classes is not None:
        metrics["accuracy"], families["accuracy"] = _accuracy(cases, classes)
        metrics["baseline_accuracy"] = _baselines(cases, classes)
    if not rated:
        metrics["macro_auroc"] = _macro_values(cases)
    elif len(rated) > 1:
        metrics["macro_auroc"] = _macro_means(cases, rated, shared)
        families["macro_auroc"] = _macro_family(cases, rated, shared)
    return metrics, families


def _groups(asked: Predictions, columns: pd.DataFrame, names: Sequence[str]) -> tuple[list[tuple[str, Group]], int]:
    """Return all cases, then the groups of each column with its name; and how many cases the manifest lacks."""
    ids = asked.table["id"]
    if not len(ids):
        raise DataError(f"{asked.path}: no case in the split to evaluate.")
    absent = int((~ids.isin(columns.index)).sum())
    if absent == len(ids):
        raise DataError(
            f"{asked.path}: none of its {absent:,} cases is in the manifest (the first is {ids.iloc[0]!r}). Name the "
            "manifest that was predicted."
        )
    known = columns[list(names)].reindex(ids).reset_index(drop=True)
    found = [("", Group("all cases", np.ones(len(ids), dtype=bool)))]
    return found + [(name, group) for name in names for group in groups(name, texts(known[name]))], absent


def _cases(asked: Predictions, parted: list[tuple[str, Group]], evaluation: Evaluation) -> GroupedCases:
    scored = asked.scored()
    ok = (asked.table["status"] == "ok").to_numpy()
    truth = scored.truth()
    columns = [column for column, _ in parted]
    return GroupedCases(
        truth=truth,
        scores=scored.scores(),
        inside=np.column_stack([group.rows[ok] for _, group in parted]),
        mirrored=np.array([columns.count(name) == 2 and columns.index(name) < g for g, name in enumerate(columns)]),
        bootstrap=evaluation.bootstrap(scored.table["patient"], truth),
    )


def _accuracy(cases: GroupedCases, scored: Predictions) -> tuple[list[Estimate], list[Contrast]]:
    truth, bootstrap = true_classes(scored), cases.bootstrap
    right = np.where(truth >= 0, (decided_classes(scored) == truth).astype(np.float64), np.nan)
    hits = np.where(cases.inside, right[:, None], np.nan)
    patients = [bootstrap.having(~np.isnan(column)) for column in hits.T]
    others = [bootstrap.having(~rows & (truth >= 0)) for rows in cases.inside.T]
    found = proportions(hits, bootstrap, [NO_TRUTH] * hits.shape[1])
    gaps = mean_gaps(right, cases.inside, bootstrap.index, bootstrap.size)
    return found, _family(cases, gaps, np.minimum(patients, others))


def _baselines(cases: GroupedCases, scored: Predictions) -> list[Estimate]:
    truth, classes = true_classes(scored), len(scored.labels)
    return [
        baseline_accuracy(np.bincount(truth[rows & (truth >= 0)], minlength=classes), scored.labels)
        for rows in cases.inside.T
    ]


def _shared(rated: Sequence[RatedLabel], columns: Sequence[str]) -> np.ndarray:
    """Return the labels that the mean of each group is over, (G, L) boolean, so that equal means are compared.

    These are the labels with enough patients in all groups of the same column, and among all other cases. A group that
    has enough for less than half of the labels of all cases is not compared: it would take the labels from the others.
    """
    enough = np.column_stack([each.smaller.min(axis=1) >= FEW for each in rated])
    enough[0] = [each.smaller[0, 0] >= FEW for each in rated]  # all cases: there are no others
    shared = np.zeros_like(enough)
    shared[0] = enough[0]
    for column in set(columns[1:]):
        own = np.array([name == column for name in columns])
        own[0] = False
        compared = own & (enough.sum(axis=1) >= max(1, _SHARE * enough[0].sum()))
        shared[compared] = enough[compared].all(axis=0)
    return shared


def _macro_means(cases: GroupedCases, rated: Sequence[RatedLabel], shared: np.ndarray) -> list[Estimate]:
    """Compute the mean AUROC over the labels that are shared; where none is, over the defined ones without interval."""
    found = []
    for g in range(cases.inside.shape[1]):
        values = np.array([each.auroc[g] for each in rated])
        drawn = [each.drawn for each in rated]
        left_out = [own.left_out[:, g] for own in drawn if own.left_out is not None]
        resampled = np.column_stack([own.resampled[:, g] for own in drawn])
        mine = Drawn(resampled, np.column_stack(left_out) if left_out else None, drawn[0].jackknife)
        few = np.array([each.smaller[g, 0] for each in rated])
        mean = believed_macro(values, mine, few, shared[g], "no finding has both positive and negative cases")
        if not np.isnan(mean.value) and not shared[g].any():
            mean = Estimate(float("nan"), reason=NOT_SHARED)
        found.append(mean)
    return found


def _macro_family(cases: GroupedCases, rated: Sequence[RatedLabel], shared: np.ndarray) -> list[Contrast]:
    """Compute the differences of the mean AUROCs over the shared labels."""
    groups, of = shared.shape[0], shared.sum(axis=1)
    total = Gaps(np.zeros(groups), np.zeros((groups, cases.bootstrap.size)))
    squares, degrees = np.zeros(groups), np.zeros(groups)
    for label, each in enumerate(rated):
        own = shared[:, label] & ~np.isnan(each.gaps.values)
        total.values[own] += each.gaps.values[own]
        total.influences[own] += each.gaps.influences[own]
        variance = (each.gaps.influences**2).sum(axis=1)
        squares[own] += variance[own]
        degrees[own] += variance[own] ** 2 / (each.smaller[own].min(axis=1) - 1)
    mean = Gaps(metrics.ratio(total.values, of), metrics.ratio(total.influences, of[:, None]))
    found = _family(cases, mean, None, metrics.ratio(squares**2, degrees))
    return [
        contrast
        if shared[g].any() or cases.inside[:, g].all()
        else contrast._replace(difference=Estimate(float("nan"), reason=NOT_SHARED))
        for g, contrast in enumerate(found)
    ]


def _macro_values(cases: GroupedCases) -> list[Estimate]:
    """Compute the macro AUROC of many classes, without intervals."""
    truths = (np.where(rows[:, None], cases.truth, np.nan) for rows in cases.inside.T)
    means = [metrics.macro(metrics.auroc(truth, cases.scores))[0] for truth in truths]
    undefined, plain = "no class with cases of another class", f"{NO_INTERVAL}: more than {MANY} classes"
    return [Estimate(mean, reason=undefined if np.isnan(mean) else plain) for mean in means]


def _family(
    cases: GroupedCases, gaps: Gaps, smaller: np.ndarray | None, degrees: np.ndarray | None = None
) -> list[Contrast]:
    """Return tests that are adjusted together.

    `smaller` are the (G,) patients in the smallest class of both sides; fewer than 10 get neither interval nor p, for
    under the null it would fall below 0.05 in up to one in eight. `degrees` (G,) of freedom are these less 1 if not
    given.
    """
    found, p = differences(gaps, np.maximum(1, smaller - 1) if degrees is None and smaller is not None else degrees)
    if smaller is not None:
        p[smaller < FEW] = np.nan
    adjusted = holm(np.where(cases.mirrored, np.nan, p))
    adjusted[cases.mirrored] = adjusted[np.flatnonzero(cases.mirrored) - 1]
    contrasts = []
    for g, estimate in enumerate(found):
        if np.isnan(estimate.value):
            alone = cases.inside[:, g].all()
            estimate = replace(estimate, reason="no other cases" if alone else "undefined here or in all other cases")
        elif smaller is not None and smaller[g] < FEW and not estimate.reason:
            estimate = Estimate(estimate.value, reason=too_few(int(smaller[g])))
        contrasts.append(Contrast(estimate, float(p[g]), float(adjusted[g])))
    return contrasts


def _label(
    cases: GroupedCases, label: int, group: int, name: str, rated: RatedLabel, contrast: Contrast
) -> LabelMetrics:
    truth = np.where(cases.inside[:, group], cases.truth[:, label], np.nan)
    return LabelMetrics(
        label=name,
        patients=cases.bootstrap.having(~np.isnan(truth)),
        cases=int((~np.isnan(truth)).sum()),
        positives=int((truth == 1).sum()),
        smaller_class=int(rated.smaller[group, 0]),
        metrics=rated.metrics[group],
        contrast=contrast,
    )
