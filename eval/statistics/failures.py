"""Failed cases in the metrics: counted against the model, and what they could have done to it at worst and at best.

A case without a score is no negative one, and a metric of the others alone is better the more hard cases fail. So a
failed case is counted as wrong too (intention to diagnose: Schuetz et al. 2012, BMJ 345:e6717), and bounds say what
the metrics of all requested cases would be, whatever scores the failed ones had been given.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ...datasets.manifest.tables import Predictions
from .intervals import NO_INTERVAL, Estimate, proportions
from .metrics import RATE_REASONS, Confusion, auroc, confusion, rates, reasons
from .operating_points import OperatingPoint
from .resampling import PatientBootstrap

AS_WRONG = "_failed_as_wrong"
WORST, BEST = "_worst_case", "_best_case"
BOUNDED = ("sensitivity", "specificity", "ppv", "npv", "accuracy")
_RATES = ("sensitivity", "specificity")
_BOUND = f"{NO_INTERVAL}: a bound, whatever scores the failed cases had been given"


class Flow(NamedTuple):
    """Cases of one label on their way from requested to analysed.

    Attributes:
        requested: Cases asked for.
        failed_positive, failed_negative, failed_unknown: Those that failed, by truth.
        unknown: Scored cases whose truth is not known.
        positive, negative: Scored cases with known truth, which the metrics are of.
    """

    requested: int
    failed_positive: int
    failed_negative: int
    failed_unknown: int
    unknown: int
    positive: int
    negative: int

    @property
    def failed(self) -> int:
        """Count the failed cases."""
        return self.failed_positive + self.failed_negative + self.failed_unknown


def flows(asked: Predictions) -> list[Flow]:
    """Return the way of all requested cases, for each label."""
    truth, failed = asked.truth(), (asked.table["status"] == "failed").to_numpy()
    return [
        Flow(
            requested=len(column),
            failed_positive=int((column[failed] == 1).sum()),
            failed_negative=int((column[failed] == 0).sum()),
            failed_unknown=int(np.isnan(column[failed]).sum()),
            unknown=int(np.isnan(column[~failed]).sum()),
            positive=int((column[~failed] == 1).sum()),
            negative=int((column[~failed] == 0).sum()),
        )
        for column in truth.T
    ]


def failure_metrics(
    asked: Predictions, points: Sequence[OperatingPoint], bootstrap: PatientBootstrap
) -> list[dict[str, Estimate]]:
    """Compute the metrics of all requested cases, by label; none where no case failed.

    `sensitivity_failed_as_wrong` and `specificity_failed_as_wrong` have intervals; `auroc_worst_case`,
    `auroc_best_case` and those of sensitivity, specificity, PPV, NPV and accuracy are bounds and have none.

    Args:
        asked: The requested cases.
        points: L operating points.
        bootstrap: Of the patients of all of them.
    """
    failed = (asked.table["status"] == "failed").to_numpy()
    if not failed.any():
        return [{} for _ in points]
    truth, scores = asked.truth(), asked.scores()
    cuts = np.array([point.threshold for point in points])
    own = _as_wrong(truth, scores, cuts, points, bootstrap)
    for found, bounds in zip(own, _bounds(truth, scores, failed, cuts, points)):
        found.update(bounds)
    return own


def _as_wrong(
    truth: np.ndarray, scores: np.ndarray, cuts: np.ndarray, points: Sequence[OperatingPoint],
    bootstrap: PatientBootstrap,
) -> list[dict[str, Estimate]]:  # fmt: skip
    """Compute sensitivity and specificity where a failed case (its score is NaN) is right for no truth."""
    shown, own = ~np.isnan(cuts)[None], ((1, scores >= cuts), (0, scores < cuts))
    hits = [np.where((truth == one) & shown, right.astype(np.float64), np.nan) for one, right in own]
    why = [point.reason or RATE_REASONS[name] for name in _RATES for point in points]
    found = proportions(np.concatenate(hits, axis=1), bootstrap, why)
    labels = len(points)
    return [{name + AS_WRONG: found[i * labels + label] for i, name in enumerate(_RATES)} for label in range(labels)]


def _bounds(
    truth: np.ndarray, scores: np.ndarray, failed: np.ndarray, cuts: np.ndarray, points: Sequence[OperatingPoint]
) -> list[dict[str, Estimate]]:
    found: list[dict[str, Estimate]] = [{} for _ in points]
    cells = confusion(truth[~failed], scores[~failed], cuts)
    lost_positive, lost_negative = ((truth[failed] == one).sum(axis=0) * ~np.isnan(cuts) for one in (1, 0))
    why = reasons(truth)
    for ending, wrong in ((WORST, True), (BEST, False)):
        # Outside of all scores: at worst a positive case is ranked below every negative one, at best above.
        assumed = np.where((truth == 1) ^ wrong, 2.0, -1.0)
        ranked = auroc(truth, np.where(failed[:, None], assumed, scores))
        counted = (
            Confusion(cells.tp, cells.fp + lost_negative, cells.fn + lost_positive, cells.tn)
            if wrong
            else Confusion(cells.tp + lost_positive, cells.fp, cells.fn, cells.tn + lost_negative)
        )
        rated = rates(counted)
        for label, own in enumerate(found):
            own[f"auroc{ending}"] = Estimate(float(ranked[label]), reason=why[label] or _BOUND)
            for name in BOUNDED:
                value = float(rated[name][label])
                reason = points[label].reason or RATE_REASONS[name] if np.isnan(value) else _BOUND
                own[name + ending] = Estimate(value, reason=reason)
    return found
