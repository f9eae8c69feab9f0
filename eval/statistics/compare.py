"""Two models on the same cases: paired differences with intervals, and where they disagree most."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ...core.errors import DataError
from ...datasets.manifest.tables import Predictions
from ..evaluation import STANDARD, Evaluation
from ..inputs import Table, open_predictions
from .classes import MANY, detailed_labels, exclusive
from .compare_decisions import DecisionComparison, compare_decisions
from .delong import PairedTest, delong_test, few_patients
from .holm import holm
from .intervals import LEVEL, NO_INTERVAL, Estimate, believed_macro, estimates, macro_draws, macro_size
from .mcnemar import ClassComparison, compare_classes
from .metrics import auroc, average_precision, predicted_labels, reasons
from .metrics import macro as macro_mean
from .resampling import PatientBootstrap, Reweighted
from .reservations import LeftOut, rare_labels, widened_p

LISTED = 12  # disagreements shown on the page
KEPT = 5000  # and written to the table of disagreements


@dataclass(frozen=True, repr=False)
class Comparison:
    """First model minus second, on the cases that both scored.

    Attributes:
        cases, patients: How many were compared.
        left_out: Cases that failed in one model or the other, or in both.
        failed_first, failed_second: Cases that failed in each.
        labels: The L labels that both models score; of many exclusive classes only the most frequent.
        not_shared: Labels that one of them lacks.
        macro: Difference of the macro means, by `auroc` and `average_precision`; over all labels that both score,
            without interval where these are more than `labels`.
        differences: The same per label, L estimates each.
        tests: DeLong's paired test per label; NaN where a class has too few patients.
        adjusted: (L,) p of these by Holm over the labels.
        decisions: The predicted labels compared at both models' thresholds; None where no thresholds were given.
        p: Two-sided bootstrap p of the macro differences.
        disagreements: The cases with the largest difference of score: `id, patient, label, truth, first, second,
            first_predicted, second_predicted` (1, 0, or NaN without a threshold).
        classes: The decisions compared, where both tables have the same exclusive classes.
        rare: Labels that the macro means do not include: too few patients with or without them.
        identical: Whether both models have the same scores, and the same decisions.
        p_models: p of the verdict (macro AUROC, or accuracy of exclusive classes), by Holm over all pairs of models
            that are compared together; NaN where there is none.
    """

    cases: int
    patients: int
    left_out: int
    failed_first: int
    failed_second: int
    labels: tuple[str, ...]
    not_shared: tuple[str, ...]
    macro: dict[str, Estimate]
    differences: dict[str, list[Estimate]]
    tests: list[PairedTest]
    adjusted: np.ndarray
    decisions: DecisionComparison | None
    p: dict[str, float]
    disagreements: pd.DataFrame
    classes: ClassComparison | None
    rare: tuple[LeftOut, ...] = ()
    identical: bool = False
    p_models: float = float("nan")

    @property
    def main(self) -> Estimate:
        """Return the difference that decides: of the (macro) AUROC, and of three or more exclusive classes accuracy."""
        return self.macro["auroc"] if self.classes is None or len(self.labels) < 3 else self.classes.accuracy

    @property
    def verdict(self) -> str:
        """Return `first` or `second` for the better model, `identical`, `open`, or `none` without an interval."""
        gap = self.main
        if self.identical:
            return "identical"
        if np.isnan([gap.low, self.p_models]).any():
            return "none"
        if not (gap.low > 0 or gap.high < 0) or self.p_models >= 1 - LEVEL:
            return "open"
        return "first" if gap.value > 0 else "second"

    def table(self) -> pd.DataFrame:
        """Return the differences of AUROC and average precision with intervals and p: by label, then the macro mean."""
        names, p = [*self.labels, "macro mean"], [*(test.p for test in self.tests), self.p["auroc"]]
        found: dict[str, list[float]] = {}
        for metric, short in {"auroc": "auroc", "average_precision": "ap"}.items():
            own = [*self.differences[metric], self.macro[metric]]
            found |= {short: [e.value for e in own], f"{short}_low": [e.low for e in own]}
            found[f"{short}_high"] = [e.high for e in own]
        return pd.DataFrame(found | {"p": p, "p_holm": [*self.adjusted, np.nan]}, index=names)

    def __repr__(self) -> str:
        """Return the cases and the table."""
        return f"{self._cases()}\n{self.table().to_string(float_format='{:.3f}'.format)}"

    def _repr_html_(self) -> str:
        """Return the same for notebooks."""
        return f"<p>{self._cases()}</p>{self.table().to_html()}"

    def _cases(self) -> str:
        return f"first minus second, {self.cases:,} cases of {self.patients:,} patients, {self.left_out:,} left out"


def compare(
    a: Table,
    b: Table,
    evaluation: Evaluation = STANDARD,
    *,
    thresholds: tuple[Mapping[str, float], Mapping[str, float]] | None = None,
    most: int = KEPT,
    rare: Mapping[str, int] | None = None,
) -> Comparison:
    """Compare two models on the same cases of one split, by the same resamples of patients.

    Args:
        a: Predictions of the first model: a table, a file or a run folder.
        b: Those of the second; rows may stand in different order.
        evaluation: The split, and how intervals are made.
        thresholds: Of either model, by label; with them the predicted labels are compared too.
        most: How many disagreements to list.
        rare: Labels that no macro mean includes, with the patients in their smaller class; None for those that
            have too few among the cases compared (`reservations`).

    Raises:
        DataError: The ids, patients or truths of the split differ, or no label is shared.
    """
    a, b = (evaluation.said(open_predictions(table, name)) for table, name in ((a, "a"), (b, "b")))
    split = evaluation.split
    labels = tuple(label for label in a.labels if label in b.labels)
    not_shared = tuple(sorted(set(a.labels) ^ set(b.labels)))
    if not labels:
        raise DataError(f"{a.path} and {b.path}: no label in common, so there is nothing to compare.")
    one, two = same_cases(a, b, labels, split)
    scored = ((one["status"] == "ok") & (two["status"] == "ok")).to_numpy()
    left_out = int((~scored).sum())
    failed_first, failed_second = (int((table["status"] != "ok").sum()) for table in (one, two))
    one, two = one[scored].reset_index(drop=True), two[scored].reset_index(drop=True)
    table = replace(a, table=one, labels=labels)
    truth, first, second = table.truth(), table.scores(), replace(table, table=two).scores()
    bootstrap = evaluation.bootstrap(one["patient"], truth)
    detailed = np.isin(labels, detailed_labels(a, split))
    own = truth[:, detailed], first[:, detailed], second[:, detailed]
    few = bootstrap.smaller_class(truth)
    gone = rare_labels(
        labels, few if rare is None else np.minimum(few, [rare.get(label, n) for label, n in zip(labels, few)])
    )
    kept = ~np.isin(labels, [each.label for each in gone])
    macro, differences, p = _differences(*own, bootstrap, kept[detailed])
    if not detailed.all():
        macro, p = _macro_only(truth, first, second), dict.fromkeys(p, float("nan"))
    given = thresholds or ({}, {})
    cuts = np.array([[model.get(label, np.nan) for label in labels] for model in given], dtype=np.float64)
    tests = paired_tests(*own, bootstrap)
    same_classes = set(a.labels) == set(b.labels) and exclusive(a) and exclusive(b)
    classes = compare_classes(replace(a, table=one), replace(b, table=two), bootstrap) if same_classes else None
    return Comparison(
        cases=len(one),
        patients=bootstrap.size,
        left_out=left_out,
        failed_first=failed_first,
        failed_second=failed_second,
        labels=tuple(np.array(labels, dtype=object)[detailed]),
        not_shared=not_shared,
        macro=macro,
        differences=differences,
        tests=tests,
        adjusted=holm(np.array([test.p for test in tests])),
        decisions=None
        if thresholds is None
        else compare_decisions(own[0], own[1:], tuple(cuts[:, detailed]), bootstrap),
        p=p,
        disagreements=_disagreements(one, labels, truth, (first, second), cuts, most),
        classes=classes,
        rare=gone if kept.any() and detailed.all() else (),
        identical=np.array_equal(first, second) and (classes is None or classes.only_first + classes.only_second == 0),
        p_models=p["auroc"] if classes is None or len(labels) < 3 else classes.p,
    )


def paired_tests(
    truth: np.ndarray, first: np.ndarray, second: np.ndarray, bootstrap: PatientBootstrap
) -> list[PairedTest]:
    """Test each label by DeLong, (N, L) each; without interval and p where a class has too few patients.

    Of up to 100 patients in the smaller class the t distribution is taken: at 10 the normal one would reject too often.
    """
    columns = zip(truth.T, first.T, second.T, bootstrap.smaller_class(truth))
    return [few_patients(delong_test(y, p, q, bootstrap.index), int(few)) for y, p, q, few in columns]


def corrected_for_models(found: Mapping[str, Comparison]) -> dict[str, Comparison]:
    """Return comparisons of one model with several others, the p of their verdicts corrected by Holm."""
    p = holm(np.array([each.p_models for each in found.values()]))
    return {name: replace(each, p_models=float(own)) for (name, each), own in zip(found.items(), p)}


def same_cases(
    a: Predictions, b: Predictions, labels: tuple[str, ...], split: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the split's rows of both tables in the same order, or raise where they differ."""
    one, two = a.rows(split).table, b.rows(split).table
    for here, there, path in ((one, two, a.path), (two, one, b.path)):
        only = here.loc[~here["id"].isin(there["id"]), "id"]
        if len(only):
            other = b.path if path == a.path else a.path
            raise DataError(
                f"{path}: {len(only)} {split} cases are not in {other} (the first is {only.iloc[0]!r}). "
                "Models are compared on the same cases: predict both from the same manifest."
            )
    two = two.set_index("id").loc[one["id"]].reset_index()
    for column in ("patient", *(f"y_{label}" for label in labels)):
        left, right = one[column], two[column]
        differ = np.flatnonzero((left != right) & ~(left.isna() & right.isna()))
        if len(differ):
            row = differ[0]
            what = "patient" if column == "patient" else f"truth of {column[2:]!r}"
            raise DataError(
                f"{a.path} and {b.path}: the {what} of case {one['id'].iloc[row]!r} is "
                f"{_cell(left.iloc[row])} in one and {_cell(right.iloc[row])} in the other "
                f"({len(differ)} such cases). Predict both from the same manifest."
            )
    return one, two


def _differences(
    truth: np.ndarray, first: np.ndarray, second: np.ndarray, bootstrap: PatientBootstrap, kept: np.ndarray
) -> tuple[dict[str, Estimate], dict[str, list[Estimate]], dict[str, float]]:
    why, few = reasons(truth), bootstrap.smaller_class(truth)
    drawn = bootstrap.drawn(lambda weights: _rank_differences(truth, first, second, weights))
    macro, differences, p = {}, {}, {}
    for name, metric in {"auroc": auroc, "average_precision": average_precision}.items():
        values = metric(truth, first) - metric(truth, second)
        differences[name] = estimates(values, drawn[name], why, few)
        macro[name] = (
            differences[name][0]
            if len(values) == 1
            else believed_macro(values, drawn[name], few, kept, "no label is defined")
        )
        p[name] = _macro_p(values, drawn[name].resampled, few, kept & ~np.isnan(values))
    return macro, differences, p


def _macro_p(values: np.ndarray, draws: np.ndarray, few: np.ndarray, kept: np.ndarray) -> float:
    """Return the p of a macro difference; NaN where no label is kept."""
    if not kept.any():
        return float("nan")
    own = draws[:, kept]
    return widened_p(_two_sided_p(macro_draws(values[kept], own)), macro_size(own, few[kept]))


def _rank_differences(
    truth: np.ndarray, first: np.ndarray, second: np.ndarray, weights: Reweighted
) -> dict[str, np.ndarray]:
    one, two = weights.ranks(truth, first), weights.ranks(truth, second)
    return {name: one[name] - two[name] for name in one}


def _macro_only(truth: np.ndarray, first: np.ndarray, second: np.ndarray) -> dict[str, Estimate]:
    """Compute the macro differences of many classes, without intervals."""
    reason = f"{NO_INTERVAL}: more than {MANY} classes"
    return {
        name: Estimate(macro_mean(metric(truth, first) - metric(truth, second))[0], reason=reason)
        for name, metric in {"auroc": auroc, "average_precision": average_precision}.items()
    }


def _two_sided_p(draws: np.ndarray) -> float:
    """Compute twice the smaller share of the (R,) resamples on one side of zero, never below 2 / (R + 1)."""
    drawn = draws[~np.isnan(draws)]
    side = min((drawn <= 0).sum(), (drawn >= 0).sum())
    return float(min(1.0, 2 * (1 + side) / (1 + len(drawn)))) if len(drawn) else float("nan")


def _disagreements(
    cases: pd.DataFrame,
    labels: tuple[str, ...],
    truth: np.ndarray,
    scores: tuple[np.ndarray, np.ndarray],
    thresholds: np.ndarray,
    most: int,
) -> pd.DataFrame:
    gap = np.abs(scores[0] - scores[1])
    flat = np.argsort(-gap, axis=None, kind="stable")[:most]
    row, label = np.unravel_index(flat[gap.flat[flat] > 0], gap.shape)
    columns: Mapping[str, object] = {
        "id": cases["id"].to_numpy()[row],
        "patient": cases["patient"].to_numpy()[row],
        "label": np.asarray(labels, dtype=object)[label],
        "truth": truth[row, label],
        "first": scores[0][row, label],
        "second": scores[1][row, label],
        "first_predicted": predicted_labels(scores[0][row, label], thresholds[0][label]),
        "second_predicted": predicted_labels(scores[1][row, label], thresholds[1][label]),
    }
    return pd.DataFrame(columns)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "unknown" if np.isnan(value) else f"{value:g}"
    return repr(value)
