"""Exclusive classes: every case belongs to one class and gets one decision, and accuracy counts how often they agree.

All metrics but top-5 follow from three counts per class: cases of the class, decisions for it, and right decisions
for it. In a resample of patients these are sparse sums, so that 400 classes and 2,000 resamples take seconds.
Kappa: Cohen 1960 (Educ. Psychol. Meas. 20:37). MCC of several classes: Gorodkin 2004 (Comput. Biol. Chem. 28:367).
"""

import re
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ...core.errors import DataError
from ...datasets.manifest.tables import Predictions
from ..evaluation import KINDS, STANDARD, Evaluation
from .intervals import NO_INTERVAL, Estimate, estimates, macro_estimate, proportions, proportions_of
from .metrics import ratio
from .resampling import Drawn, PatientBootstrap, Reweighted
from .reservations import FEW

TOLERANCE = 1e-3  # by which the scores of a case may miss a sum of 1; more where they have few digits
DIGITS = 6  # fewer than a table keeps: scores with so few have been rounded
EXCLUSIVE, MULTI_LABEL = KINDS
TOP = 5
MANY = 20  # classes above which only the most frequent get intervals, curves and thresholds of their own
FREQUENT = 12
_NORMAL = re.compile(
    r"^(normal|negative|neg|benign|healthy|controls?|none|absent|absence|background|0|false|unremarkable)\b"
    r"|^(no|non|not|without)(?![a-z])|^nofinding|^(normal|benign|healthy|negative|control)_",
    re.IGNORECASE,
)  # names of the class that is not looked for
NO_TRUTH = "no scored case with known truth"
NOT_FREQUENT = f"more than {MANY} classes, and this is none of the {FREQUENT} most frequent"
PER_CLASS = {
    "sensitivity": "no case of this class",
    "specificity": "no case of another class",
    "ppv": "never decided for",
    "f1": "no case of this class",
}


@dataclass(frozen=True)
class ClassResult:
    """One model's decisions on the evaluated split.

    Attributes:
        labels: The L classes.
        many: Whether there are more than 20, so that only the 12 most frequent are shown one by one.
        cases, patients: Scored cases with known truth, which the metrics are about, and their patients.
        unknown: Scored cases without known truth.
        failed: Failed cases with known truth.
        ruled: Whether the decisions come from the table's column `decision`, not from the largest score.
        differing: Scored cases whose decision is not the class with the largest score.
        metrics: Of all classes together, by name.
        per_class: `sensitivity`, `specificity`, `ppv`, `f1`: L estimates each.
        confusion: (L, L) cases by truth (rows) and decision (columns).
        failed_truth: (L,) failed cases by their true class.
    """

    labels: tuple[str, ...]
    many: bool
    cases: int
    patients: int
    unknown: int
    failed: int
    ruled: bool
    differing: int
    metrics: dict[str, Estimate]
    per_class: dict[str, list[Estimate]]
    confusion: np.ndarray
    failed_truth: np.ndarray

    @property
    def frequent(self) -> str:
        """Return the most frequent class of the counted cases."""
        return self.labels[int(self.confusion.sum(axis=1).argmax())]


class Margins(NamedTuple):
    """Right decisions, cases, and decisions per class; three arrays of one shape, (L,) or (R, L) over resamples."""

    right: np.ndarray
    truth: np.ndarray
    decided: np.ndarray


class Kind(NamedTuple):
    """How the labels of a table are analysed.

    Attributes:
        exclusive: As exclusive classes; else each label on its own.
        reason: Why.
        doubtful: Whether a person should be shown the reason, for the table could be read in the other way too.
    """

    exclusive: bool
    reason: str
    doubtful: bool = False


def kind(table: Predictions) -> Kind:
    """Decide whether the labels are exclusive classes: as a user has said, else by truths and scores.

    By these they are where there are two or more, every case with a known truth has exactly one 1, and the scores of
    every scored case add up to 1, within the rounding of their digits.

    Raises:
        DataError: They are said to be exclusive, or have a column `decision`, but the truths are not; or a column
            `decision` stands beside labels that are each on their own.
    """
    by_truth = _why_not_by_truth(table)
    by_scores, rounded = ("", "") if by_truth else _why_not_by_scores(table)
    ruled = table.decisions() is not None
    if table.kind == EXCLUSIVE:
        if by_truth:
            raise DataError(f"{table.path}: the labels are said to be exclusive classes, but {by_truth}.")
        return Kind(True, f"that was asked for{', although ' if by_scores else ''}{by_scores}", bool(by_scores))
    why = "that was asked for" if table.kind == MULTI_LABEL else by_truth or by_scores
    if why and ruled:
        raise DataError(
            f"{table.path}: a column 'decision' needs exclusive classes, but {why}. Mend that, or remove the column."
        )
    if table.kind == MULTI_LABEL:
        return Kind(False, why)
    if why:
        note = "" if by_truth else ", although every known truth has exactly one 1"
        return Kind(False, why + note, doubtful=not by_truth)
    return Kind(True, f"every known truth has exactly one 1, and the scores of every case add up to 1{rounded}",
                doubtful=bool(rounded))  # fmt: skip


def why_not_exclusive(table: Predictions) -> str:
    """Say why the labels are not exclusive classes by their truths and scores; empty where they are."""
    return _why_not_by_truth(table) or _why_not_by_scores(table)[0]


def exclusive(table: Predictions) -> bool:
    """Return whether the labels are exclusive classes; see `kind`."""
    return kind(table).exclusive


def _why_not_by_truth(table: Predictions) -> str:
    if len(table.labels) < 2:
        return "there is one label only"
    truth = table.truth()
    wrong = np.flatnonzero(~np.isnan(truth).all(axis=1) & ((truth == 1).sum(axis=1) != 1))
    if len(wrong):
        return f"case {table.table['id'].iloc[wrong[0]]!r} has {int((truth[wrong[0]] == 1).sum())} labels that are 1"
    return ""


def _why_not_by_scores(table: Predictions) -> tuple[str, str]:
    """Say why the scores are not those of exclusive classes, and of rounded ones that are, by how few digits."""
    scored = table.scored()
    if not len(scored):
        return "no case is scored", ""
    scores = scored.scores()
    digits = _digits(scores)
    sums, slack = scores.sum(axis=1), max(TOLERANCE, len(table.labels) * 0.5 * 10.0**-digits if digits else 0.0)
    wrong = np.flatnonzero(np.abs(sums - 1) > slack + 1e-9)
    if len(wrong):
        return f"the scores of case {scored.table['id'].iloc[wrong[0]]!r} add up to {sums[wrong[0]]:.4g}, not 1", ""
    if np.abs(sums - 1).max() <= TOLERANCE:
        return "", ""
    return "", f" within the rounding of {digits} digit{'s' * (digits > 1)} ({sums.min():.4g} to {sums.max():.4g})"


def _digits(scores: np.ndarray) -> int:
    """Return how many decimals the scores have, at most 7; 0 where all are 0 or 1."""
    return next((d for d in range(DIGITS + 1) if np.abs(np.round(scores, d) - scores).max() < 1e-9), DIGITS + 1)


def positive_class(labels: tuple[str, ...]) -> int:
    """Return the place of what is looked for, of two classes: the one that does not say normal, else the second."""
    normal = [bool(_NORMAL.search(label.strip())) for label in labels]
    return 0 if normal[1] and not normal[0] else 1


def detailed_labels(table: Predictions, split: str) -> tuple[str, ...]:
    """Return the labels that get intervals, curves, thresholds and calibration of their own, in the table's order.

    These are all, or of more than 20 exclusive classes the 12 with most cases in `split`.
    """
    if len(table.labels) <= MANY or not exclusive(table):
        return table.labels
    cases = np.nansum(table.rows(split).truth(), axis=0)
    kept = np.sort(np.argsort(-cases, kind="stable")[:FREQUENT])
    return tuple(table.labels[label] for label in kept)


def true_classes(table: Predictions) -> np.ndarray:
    """Return (N,) places of the true classes in the labels of an exclusive table, -1 where unknown."""
    truth = table.truth()
    return np.where((truth == 1).any(axis=1), (truth == 1).argmax(axis=1), -1)


def decided_classes(table: Predictions) -> np.ndarray:
    """Return (N,) places of the decided classes: the column `decision`, else the largest score; -1 where failed."""
    given = table.decisions()
    return given if given is not None else _largest(table.scores())


def class_result(asked: Predictions, evaluation: Evaluation = STANDARD) -> ClassResult:
    """Compute the metrics of an exclusive table.

    Args:
        asked: All requested cases of the evaluated split, failed ones too.
        evaluation: How intervals are made.
    """
    scored, decided = asked.scored(), decided_classes(asked)
    truth, ok = true_classes(asked), (asked.table["status"] == "ok").to_numpy()
    counted, classes = ok & (truth >= 0), len(asked.labels)
    bootstrap = evaluation.bootstrap(asked.table["patient"][counted], asked.truth()[counted])
    right_top = _in_top(asked.scores()[counted], truth[counted])
    confusion = np.zeros((classes, classes), dtype=int)
    np.add.at(confusion, (truth[counted], decided[counted]), 1)
    margins = Margins(confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0))
    groups = _groups(truth[counted], decided[counted], right_top, classes)
    drawn = bootstrap.drawn(lambda weights: _drawn(groups, classes, weights))
    per_class = _per_class(margins, drawn, truth[counted], decided[counted], bootstrap)
    metrics = _overall(margins, drawn, bootstrap, per_class, _patients(bootstrap, truth[counted], classes))
    if classes > TOP:
        metrics[f"top{TOP}_accuracy"] = _share(right_top.sum(), len(right_top), bootstrap, drawn["top"])
    metrics["baseline_accuracy"] = baseline_accuracy(margins.truth, asked.labels)
    metrics["accuracy_failed_as_wrong"] = _failed_as_wrong(asked, truth, decided, evaluation)
    return ClassResult(
        labels=asked.labels,
        many=classes > MANY,
        cases=int(counted.sum()),
        patients=bootstrap.size,
        unknown=int((ok & (truth < 0)).sum()),
        failed=int((~ok & (truth >= 0)).sum()),
        ruled=asked.decisions() is not None,
        differing=int((decided[ok] != _largest(scored.scores())).sum()),
        metrics=metrics,
        per_class=per_class,
        confusion=confusion,
        failed_truth=np.bincount(truth[~ok & (truth >= 0)], minlength=classes),
    )


def _largest(scores: np.ndarray) -> np.ndarray:
    """Return (N,) place of the largest score, the first of equal ones; -1 where the scores are NaN (failed)."""
    failed = np.isnan(scores).any(axis=1)
    return np.where(failed, -1, np.where(failed[:, None], 0.0, scores).argmax(axis=1))


def _in_top(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return (N,) whether the true class has one of the five largest scores, ties broken as in `_largest`."""
    own = np.take_along_axis(scores, truth[:, None], axis=1)
    first = np.arange(scores.shape[1]) < truth[:, None]
    return ((scores > own) | ((scores == own) & first)).sum(axis=1) < TOP


def _groups(truth: np.ndarray, decided: np.ndarray, right_top: np.ndarray, classes: int) -> np.ndarray:
    """Return (N, 4) groups that a case counts towards: right decision, class, decided class, top five."""
    return np.column_stack(
        [
            np.where(decided == truth, truth, -1),
            classes + truth,
            2 * classes + decided,
            np.where(right_top, 3 * classes, -1),
        ]
    )


def _drawn(groups: np.ndarray, classes: int, weights: Reweighted) -> dict[str, np.ndarray]:
    """Return all metrics in each resample: (R, L) per class, (R, 1) over all classes."""
    sums = weights.tallies(groups, 3 * classes + 1)
    margins = Margins(*np.split(sums[:, :-1].astype(np.float64), 3, axis=1))
    overall = _agreement(margins) | {"top": ratio(sums[:, -1], margins.truth.sum(axis=1))}
    return {name: ratio(*pair) for name, pair in _rates(margins).items()} | {
        name: values[:, None] for name, values in overall.items()
    }


def _rates(margins: Margins) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the metrics per class as pairs: what hits, and what is counted."""
    right, truth, decided = margins
    others = truth.sum(axis=-1, keepdims=True) - truth
    return {
        "sensitivity": (right, truth),
        "specificity": (others - decided + right, others),
        "ppv": (right, decided),
        "f1": (2 * right, np.where(truth > 0, truth + decided, 0)),  # undefined without a case, as in `metrics.rates`
    }


def _per_class(
    margins: Margins, drawn: dict[str, Drawn], truth: np.ndarray, decided: np.ndarray, bootstrap: PatientBootstrap
) -> dict[str, list[Estimate]]:
    of_class, of_others = _patients(bootstrap, truth, len(margins.truth))
    decided_for, _ = _patients(bootstrap, decided, len(margins.truth))
    patients = {"sensitivity": of_class, "specificity": of_others, "ppv": decided_for}
    found, why = _rates(margins), {name: [reason] * len(margins.truth) for name, reason in PER_CLASS.items()}
    per_class = {
        name: proportions_of(*found[name], count, _variances(drawn[name], count), why[name])
        for name, count in patients.items()
    }
    per_class["f1"] = estimates(ratio(*found["f1"]), drawn["f1"], why["f1"], of_class)
    return per_class


def _patients(bootstrap: PatientBootstrap, group: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Count the patients with a case of each group, and those with a case of another: two (groups,) arrays."""
    pairs, cases = np.unique(bootstrap.index * groups + group, return_counts=True)
    patient, group = pairs // groups, pairs % groups
    all_of_them = cases == np.bincount(bootstrap.index, minlength=bootstrap.size)[patient]
    having = np.bincount(group, minlength=groups)
    return having, bootstrap.size - np.bincount(group[all_of_them], minlength=groups)


def _overall(
    margins: Margins,
    drawn: dict[str, Drawn],
    bootstrap: PatientBootstrap,
    per_class: dict[str, list[Estimate]],
    patients: tuple[np.ndarray, np.ndarray],
) -> dict[str, Estimate]:
    """Compute accuracy, balanced accuracy, macro F1, kappa and MCC; `patients` with and without each class."""
    values = _agreement(margins)
    metrics = {"accuracy": _share(margins.right.sum(), int(margins.truth.sum()), bootstrap, drawn["accuracy"])}
    present = int((margins.truth > 0).sum())
    why = NO_TRUTH if present == 0 else "cases of one class only"
    for name, rate in {"balanced_accuracy": "sensitivity", "macro_f1": "f1"}.items():
        own = np.array([estimate.value for estimate in per_class[rate]])
        mean = _class_mean(own, drawn[rate], patients[0]) if present > 1 else Estimate(np.nan, reason=why)
        note = f"over {present} of {len(own)} classes: the others have no case" if 1 < present < len(own) else ""
        metrics[name] = replace(mean, reason="; ".join(filter(None, [mean.reason, note])))
    why = NO_TRUTH if present == 0 else "all cases or all decisions are of one class"
    for name in ("kappa", "mcc"):
        few = [int(patients[1][margins.truth.argmax()])]  # patients of all but the most frequent class
        metrics[name] = estimates(values[name][None], drawn[name], [why], few)[0]
    return metrics


def baseline_accuracy(truth: np.ndarray, labels: tuple[str, ...]) -> Estimate:
    """Compute the accuracy of always saying the most frequent of the classes with (L,) cases."""
    if not truth.sum():
        return Estimate(float("nan"), reason=NO_TRUTH)
    return Estimate(float(truth.max() / truth.sum()), reason=f"{NO_INTERVAL}: always {labels[int(truth.argmax())]!r}")


def _class_mean(values: np.ndarray, drawn: Drawn, patients: np.ndarray) -> Estimate:
    """Return the mean over the classes with a case; without interval where one of them has too few patients."""
    defined = ~np.isnan(values)
    rare = int((patients[defined] < FEW).sum())
    if not rare:
        return macro_estimate(values, drawn, few=patients)
    why = f"no interval: {rare} of {defined.sum()} classes have cases of fewer than {FEW} patients"
    return Estimate(float(values[defined].mean()), reason=why)


def _share(hits: int, cases: int, bootstrap: PatientBootstrap, drawn: Drawn) -> Estimate:
    patients = np.array([bootstrap.size])
    return proportions_of([hits], [cases], patients, _variances(drawn, patients), [NO_TRUTH])[0]


def _variances(drawn: Drawn, patients: np.ndarray) -> np.ndarray:
    """Return the variance between patients of K shares, from their draws; of few patients these vary too little."""
    draws = drawn.resampled
    known = ~np.isnan(draws)
    mean = ratio(np.nansum(draws, axis=0), known.sum(axis=0))
    squares = np.where(known, (draws - mean) ** 2, 0).sum(axis=0)
    return ratio(squares, known.sum(axis=0)) * patients / np.maximum(patients - 1, 1)


def _agreement(margins: Margins) -> dict[str, np.ndarray]:
    """Compute accuracy, kappa and MCC; scalars from (L,) margins, (R,) from (R, L)."""
    right, truth, decided = (np.asarray(part, dtype=np.float64) for part in margins)
    cases, hits = truth.sum(axis=-1), right.sum(axis=-1)
    by_chance = (truth * decided).sum(axis=-1)
    excess = hits * cases - by_chance
    variances = (cases**2 - (truth**2).sum(axis=-1)) * (cases**2 - (decided**2).sum(axis=-1))
    return {
        "accuracy": ratio(hits, cases),
        "kappa": ratio(excess, cases**2 - by_chance),
        "mcc": ratio(excess, np.sqrt(variances)),
    }


def _failed_as_wrong(asked: Predictions, truth: np.ndarray, decided: np.ndarray, evaluation: Evaluation) -> Estimate:
    """Compute the accuracy over all requested cases with known truth, where a failed one is never right."""
    hits = np.where(truth >= 0, (decided == truth).astype(np.float64), np.nan)
    bootstrap = evaluation.bootstrap(asked.table["patient"], asked.truth())
    return proportions(hits[:, None], bootstrap, ["no case with known truth"])[0]
