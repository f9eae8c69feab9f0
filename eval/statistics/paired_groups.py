"""Two models within groups of cases, paired, and the group in which each is worst.

That one model does better over all cases may hide a group in which it does worse, and the reverse. The worst group is
named for either model without an interval: it was chosen by its value. The paired tests within all groups have none of
that choice, and are corrected for their number.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ...datasets.manifest.tables import Predictions
from ..evaluation import Evaluation
from .classes import detailed_labels
from .compare import paired_tests, same_cases
from .delong import PairedTest
from .groups import groups, texts
from .holm import holm
from .metrics import auroc
from .reservations import FEW


@dataclass(frozen=True)
class PairedGroup:
    """Two models on the cases of a group, for one label.

    Attributes:
        column, group, label: Of what.
        cases: With scores of both and known truth.
        patients: In the smaller class.
        first, second: AUROCs.
        test: First minus second, DeLong's paired test.
        adjusted: Its p by Holm, over all groups and labels.
    """

    column: str
    group: str
    label: str
    cases: int
    patients: int
    first: float
    second: float
    test: PairedTest
    adjusted: float = float("nan")


@dataclass(frozen=True)
class WorstGroup:
    """Where each of two models is worst for a label, among the groups with enough patients.

    Attributes:
        column, label: Of what.
        first, second: AUROCs there.
        first_group, second_group: Their names.
    """

    column: str
    label: str
    first: float
    first_group: str
    second: float
    second_group: str


def paired_groups(
    a: Predictions, b: Predictions, columns: pd.DataFrame, names: Sequence[str], evaluation: Evaluation
) -> tuple[list[PairedGroup], list[WorstGroup]]:
    """Compare two models within the groups of some columns, and find where each is worst.

    Args:
        a: Predictions of the first model.
        b: Those of the second, of the same cases.
        columns: What the manifest says of each case, by id (`manifest_columns`).
        names: Columns that make groups.
        evaluation: The split.
    """
    labels = tuple(label for label in detailed_labels(a, evaluation.split) if label in b.labels)
    one, two = same_cases(a, b, labels, evaluation.split)
    scored = ((one["status"] == "ok") & (two["status"] == "ok") & one["id"].isin(columns.index)).to_numpy()
    one, two = one[scored].reset_index(drop=True), two[scored].reset_index(drop=True)
    first, second = (replace(a, table=table, labels=labels) for table in (one, two))
    cells, found = columns.loc[one["id"]], []
    for name in names:
        for group in groups(name, texts(cells[name]).reset_index(drop=True)):
            found += _within(name, group.name, group.rows, first, second, evaluation)
    adjusted = holm(np.array([each.test.p for each in found]))
    rows = [replace(each, adjusted=float(p)) for each, p in zip(found, adjusted)]
    return rows, [each for name in names for label in labels if (each := _worst(name, label, rows)) is not None]


def _within(
    column: str, name: str, rows: np.ndarray, first: Predictions, second: Predictions, evaluation: Evaluation
) -> list[PairedGroup]:
    truth, one, two = first.truth()[rows], first.scores()[rows], second.scores()[rows]
    bootstrap = evaluation.bootstrap(first.table["patient"][rows], truth)
    few = bootstrap.smaller_class(truth)
    tests = paired_tests(truth, one, two, bootstrap)
    values = zip(first.labels, tests, few, auroc(truth, one), auroc(truth, two), (~np.isnan(truth)).sum(axis=0))
    return [
        PairedGroup(column, name, label, int(cases), int(patients), float(x), float(y), test)
        for label, test, patients, x, y, cases in values
    ]


def _worst(column: str, label: str, rows: Sequence[PairedGroup]) -> WorstGroup | None:
    """Return the worst groups of a label; None where fewer than two groups have enough patients."""
    own = [each for each in rows if (each.column, each.label) == (column, label) and each.patients >= FEW]
    if len(own) < 2:
        return None
    one, two = min(own, key=lambda each: each.first), min(own, key=lambda each: each.second)
    return WorstGroup(column, label, one.first, one.group, two.second, two.group)
