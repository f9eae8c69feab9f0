"""Whether a smaller model is not worse: the AUROC of every finding, paired, on the same cases, against the margin.

Every finding that can be judged must pass: the upper bound of its loss lies below the margin (an intersection-union
test, which needs no correction for their number). A finding with too few patients is not judged, and does not pass.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from ...datasets.manifest.tables import Predictions
from ...eval import Evaluation
from ...eval.statistics.compare import compare
from ...eval.statistics.intervals import Estimate
from ...eval.statistics.margins import REFUTED, SHOWN, margin_test
from ...eval.statistics.questions import NON_INFERIORITY, Margin
from ...eval.statistics.reservations import FEW
from ...eval.statistics.results import results

PASSED, WORSE, OPEN, NOT_JUDGED = "not worse", "worse", "not shown", "not judged"
_WORDS = {SHOWN: PASSED, REFUTED: WORSE}


@dataclass(frozen=True)
class Finding:
    """One finding of two models.

    Attributes:
        label: Its name.
        verdict: `not worse`, `worse` (by more than the margin), `not shown`, or `not judged`.
        loss: AUROC of the model minus that of the smaller one, with its 95 % interval.
        patients: In its smaller class.
        why: Why it is not judged; empty where it is.
    """

    label: str
    verdict: str
    loss: Estimate
    patients: int
    why: str = ""


@dataclass(frozen=True)
class Judged:
    """A smaller model on one split.

    Attributes:
        findings: In the model's order.
        auroc: Macro AUROC of the smaller model.
        loss: Macro AUROC of the model minus that.
        cases, patients: That both models have scores of.
        failed: Cases that the smaller model alone has no score of.
    """

    findings: tuple[Finding, ...]
    auroc: Estimate
    loss: Estimate
    cases: int
    patients: int
    failed: int

    @property
    def passed(self) -> bool:
        """Return whether every finding that is judged is not worse, at least one is judged, and no case failed anew."""
        judged = [each for each in self.findings if each.verdict != NOT_JUDGED]
        return bool(judged) and all(each.verdict == PASSED for each in judged) and not self.failed


def judge(small: Predictions, full: Predictions, margin: float, split: str) -> Judged:
    """Hold a smaller model against the model that it was made from.

    Args:
        small: Predictions of the smaller model.
        full: Of the model; the same cases.
        margin: The largest loss of AUROC that does not matter.
        split: Whose cases count.
    """
    evaluation = Evaluation(split=split)
    found = compare(small, full, evaluation)
    smaller = _smaller_classes(full, split)
    ranks = _same_ranks(small, full, split)
    own = results({"small": small.rows(split)}, evaluation, {"small": {}})
    return Judged(
        tuple(_finding(found, label, margin, smaller[label], ranks[label]) for label in full.labels),
        own.models[0].macro["auroc"],
        _negative(found.macro["auroc"]),
        found.cases,
        found.patients,
        max(0, found.failed_first - found.failed_second),
    )


def rare_findings(table: Predictions, split: str) -> dict[str, int]:
    """Return the findings that no loss can be judged of on a split, with the patients in their smaller class."""
    return {label: n for label, n in _smaller_classes(table, split).items() if n < FEW}


def _finding(found, label: str, margin: float, patients: int, same: bool) -> Finding:
    if label not in found.labels:
        return Finding(label, NOT_JUDGED, Estimate(float("nan")), patients, "too many classes: only frequent ones are")
    test = margin_test(found, Margin(NON_INFERIORITY, margin, f"{label}:auroc"))
    loss = _negative(test.difference)
    if patients < FEW:
        return Finding(label, NOT_JUDGED, loss, patients, f"{patients} patients in a class, fewer than {FEW}")
    if same:  # no case has changed its place: the AUROC is the same whatever the cases
        return Finding(label, PASSED, Estimate(0.0, 0.0, 0.0, method="the same order of all cases"), patients)
    if not test.verdict:
        return Finding(label, NOT_JUDGED, loss, patients, test.difference.reason)
    return Finding(label, _WORDS.get(test.verdict, OPEN), loss, patients)


def _negative(difference: Estimate) -> Estimate:
    """Return the loss of a difference small minus full."""
    return Estimate(-difference.value, -difference.high, -difference.low, difference.reason, difference.method)


def _smaller_classes(table: Predictions, split: str) -> dict[str, int]:
    rows = table.rows(split).scored()
    few = Evaluation(split=split).bootstrap(rows.table["patient"], rows.truth()).smaller_class(rows.truth())
    return {label: int(n) for label, n in zip(table.labels, few, strict=True)}


def _same_ranks(small: Predictions, full: Predictions, split: str) -> dict[str, bool]:
    """Return of which labels both models order all cases alike."""
    one, two = (table.rows(split).table.set_index("id") for table in (small, full))
    two = two.reindex(one.index)
    columns = [(one[f"p_{label}"], two[f"p_{label}"]) for label in full.labels]
    ranks = [[rankdata(scores, nan_policy="omit") for scores in both] for both in columns]
    return {
        label: bool(np.array_equal(own, other, equal_nan=True))
        for label, (own, other) in zip(full.labels, ranks, strict=True)
    }
