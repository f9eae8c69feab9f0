"""Two models at the same sensitivity, or the same specificity: what each has of the other rate there.

Each model's own threshold hides a difference of models behind one of thresholds. Here both are read off their ROC
curves on the evaluated cases at the same rate, and again in every resample of patients, so that the interval of the
difference holds the chance of the threshold too.
"""

from dataclasses import dataclass

import numpy as np

from ...datasets.manifest.tables import Predictions
from ..evaluation import Evaluation
from .compare import same_cases
from .intervals import Estimate, estimates
from .metrics import reasons
from .resampling import Reweighted
from .rules import parse_rule

OTHER = {"sensitivity": "specificity", "specificity": "sensitivity"}


@dataclass(frozen=True)
class Matched:
    """One finding at a matched rate.

    Attributes:
        label: The finding.
        first, second: The other rate of both models.
        difference: First minus second.
    """

    label: str
    first: float
    second: float
    difference: Estimate


def matched_rates(
    a: Predictions, b: Predictions, labels: tuple[str, ...], rule: str, evaluation: Evaluation
) -> list[Matched]:
    """Compare two models at `sensitivity=0.9` or the like, on the cases that both scored.

    Args:
        a: Predictions of the first model.
        b: Of the second.
        labels: L that both score.
        rule: The rate at which they are matched: the least sensitivity (or specificity) that both must have.
        evaluation: The split, and how intervals are made.
    """
    kind, level, *_ = parse_rule(rule)
    one, two = same_cases(a, b, labels, evaluation.split)
    scored = ((one["status"] == "ok") & (two["status"] == "ok")).to_numpy()
    one, two = one[scored], two[scored]
    truth = one[[f"y_{label}" for label in labels]].to_numpy(np.float64)
    scores = [table[[f"p_{label}" for label in labels]].to_numpy(np.float64) for table in (one, two)]
    bootstrap = evaluation.bootstrap(one["patient"], truth)
    if kind == "specificity":  # the same question with both classes, and the order of the scores, turned around
        turned, scores = 1 - truth, [-own for own in scores]
    else:
        turned = truth
    curves = [[_Curve(y, p, bootstrap.index, level) for y, p in zip(turned.T, own.T)] for own in scores]
    values = np.array(
        [[curve.rate(np.ones((bootstrap.size, 1), dtype=np.int32))[0] for curve in own] for own in curves]
    )
    drawn = bootstrap.drawn(lambda weights: {"difference": _drawn(curves, weights)})["difference"]
    found = estimates(values[0] - values[1], drawn, reasons(truth), bootstrap.smaller_class(truth))
    return [Matched(label, float(values[0, i]), float(values[1, i]), found[i]) for i, label in enumerate(labels)]


def _drawn(curves: list[list["_Curve"]], weights: Reweighted) -> np.ndarray:
    """Return the differences in each resample, (R, L)."""
    blocks = []
    for counts in weights.counts():
        first, second = (np.column_stack([curve.rate(counts) for curve in own]) for own in curves)
        blocks.append(first - second)
    return np.concatenate(blocks)


class _Curve:
    """One label's scores by class, sorted, with the patients behind them."""

    def __init__(self, truth: np.ndarray, score: np.ndarray, patient: np.ndarray, level: float):
        positive, negative = np.flatnonzero(truth == 1), np.flatnonzero(truth == 0)
        positive = positive[np.argsort(-score[positive], kind="stable")]
        negative = negative[np.argsort(score[negative], kind="stable")]
        self.falling, self.rising, self.level = score[positive], score[negative], level
        self.of_falling, self.of_rising = patient[positive], patient[negative]

    def rate(self, counts: np.ndarray) -> np.ndarray:
        """Return the share of negatives below the highest threshold that finds the level, (r,), of (P, r) counts."""
        resamples = counts.shape[1]
        if not len(self.falling) or not len(self.rising):
            return np.full(resamples, np.nan)
        found = np.cumsum(counts[self.of_falling], axis=0, dtype=np.int32)
        # Shares are compared with a whisker of slack, as where thresholds are chosen.
        place = (found >= self.level * found[-1] - 1e-9).argmax(axis=0)
        below = np.searchsorted(self.rising, self.falling[place], side="left")
        spared = np.vstack([np.zeros((1, resamples), np.int32),
                            np.cumsum(counts[self.of_rising], axis=0, dtype=np.int32)])  # fmt: skip
        drawn = (found[-1] > 0) & (spared[-1] > 0)
        share = spared[below, np.arange(resamples)] / np.maximum(spared[-1], 1)
        return np.where(drawn, share, np.nan)
