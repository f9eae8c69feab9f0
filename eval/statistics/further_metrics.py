"""Metrics that referees ask for: partial and micro AUROC, scaled Brier score, log loss, Hand's and Till's M."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from .intervals import Estimate, estimates
from .metrics import auroc, brier, ratio, reasons
from .resampling import PatientBootstrap, Reweighted
from .weighted_roc import MOST, TOO_MANY, roc_area

RATE = 0.1  # false-positive rate up to which the partial AUROC is
_SMALLEST = np.finfo(np.float64).eps  # scores of 0 and 1 are moved in by so much, as scikit-learn does
_MOST_CLASSES = 20  # of which every pair is computed


Computed = list[dict[str, Estimate]]  # one of each of L labels, by name


@dataclass(frozen=True)
class LabelMetrics:
    """Metrics of single labels that are computed together.

    Attributes:
        words: Name of each to its words in the report.
        compute: Of (N, L) truths (1, 0 or NaN), (N, L) scores, and the N cases' patients.
    """

    words: Mapping[str, str]
    compute: Callable[[np.ndarray, np.ndarray, PatientBootstrap], Computed]


def partial_auroc(truth: np.ndarray, scores: np.ndarray, bootstrap: PatientBootstrap) -> Computed:
    """Compute `partial_auroc`: up to a false-positive rate of `RATE`, standardised as by McClish."""
    return [{"partial_auroc": roc_area(y, p, bootstrap, RATE)} for y, p in zip(truth.T, scores.T)]


def losses(truth: np.ndarray, scores: np.ndarray, bootstrap: PatientBootstrap) -> Computed:
    """Compute `scaled_brier` and `log_loss`.

    The scaled Brier score is 1 for perfect scores and 0 where the prevalence of these cases is everybody's score.
    """
    drawn = bootstrap.drawn(lambda weights: _sums_of(truth, scores, weights))
    own, mean = _losses(truth, scores), ratio((truth == 1).sum(axis=0), (~np.isnan(truth)).sum(axis=0))
    log_loss = ratio(np.nansum(own, axis=0), (~np.isnan(own)).sum(axis=0))
    scaled = 1 - ratio(brier(truth, scores), mean * (1 - mean))
    few, why = bootstrap.smaller_class(truth), [_no_case(column) for column in truth.T]
    found = zip(
        estimates(scaled, drawn["scaled_brier"], reasons(truth), few), estimates(log_loss, drawn["log_loss"], why, few)
    )
    return [{"scaled_brier": one, "log_loss": other} for one, other in found]


# What the report's "Further metrics" shows of each label, in this order.
LABEL_METRICS = [
    LabelMetrics({"partial_auroc": f"Partial AUROC, false-positive rate to {RATE:g}"}, partial_auroc),
    LabelMetrics({"scaled_brier": "Scaled Brier score", "log_loss": "Log loss"}, losses),
]


def label_metric_words() -> dict[str, str]:
    """Return the words of each name that `label_metrics` gives."""
    return {name: words for each in LABEL_METRICS for name, words in each.words.items()}


def label_metrics(truth: np.ndarray, scores: np.ndarray, bootstrap: PatientBootstrap) -> Computed:
    """Compute all of `LABEL_METRICS` of (N, L) truths and scores, by label."""
    found = [metrics.compute(truth, scores, bootstrap) for metrics in LABEL_METRICS]
    return [{name: value for own in each for name, value in own.items()} for each in zip(*found)]


def micro_auroc(truth: np.ndarray, scores: np.ndarray, bootstrap: PatientBootstrap) -> Estimate:
    """Compute the AUROC of all cases and labels in one pool, (N, L), as scikit-learn's `average="micro"`."""
    labels = truth.shape[1]
    pooled = PatientBootstrap(np.repeat(bootstrap.index, labels).tolist(), bootstrap.resamples, bootstrap.seed)
    return roc_area(truth.ravel(), scores.ravel(), pooled)


def hand_till(place: np.ndarray, scores: np.ndarray, bootstrap: PatientBootstrap) -> Estimate:
    """Compute Hand's and Till's M (2001, Mach. Learn. 45:171): the mean AUROC over all pairs of exclusive classes.

    Args:
        place: (N,) of the true class, -1 where unknown.
        scores: (N, C).
        bootstrap: The N cases' patients.
    """
    there = [k for k in range(scores.shape[1]) if (place == k).any()]
    pairs = [(a, b) for one, two in combinations(there, 2) for a, b in ((one, two), (two, one))]
    if not pairs or len(there) > _MOST_CLASSES:
        few_or_many = "cases of fewer than two classes" if not pairs else f"more than {_MOST_CLASSES} classes"
        return Estimate(float("nan"), reason=few_or_many)
    truth = np.column_stack([np.where(place == a, 1.0, np.where(place == b, 0.0, np.nan)) for a, b in pairs])
    own = scores[:, [a for a, _ in pairs]]
    value = np.array([auroc(truth, own).mean()])
    few = np.array([bootstrap.smaller_class(truth).min()])
    if truth.size * bootstrap.resamples > 10 * MOST:  # ranks of integers are faster
        return Estimate(float(value[0]), reason=TOO_MANY)
    drawn = bootstrap.drawn(lambda weights: {"m": weights.ranks(truth, own)["auroc"].mean(axis=1, keepdims=True)})
    return estimates(value, drawn["m"], [""], few)[0]


def net_benefit_difference(
    truth: np.ndarray, first: np.ndarray, second: np.ndarray, threshold: float, bootstrap: PatientBootstrap
) -> list[Estimate]:
    """Compute the net benefit of the first model minus that of the second, L of them, by the same resamples.

    Args:
        truth: (N, L) of 0, 1, NaN.
        first: (N, L) scores of a model.
        second: (N, L) those of another.
        threshold: Probability from which on one acts.
        bootstrap: The N cases' patients.
    """
    worth = np.where(truth == 1, 1.0, np.where(truth == 0, -threshold / (1 - threshold), np.nan))
    gaps = worth * ((first >= threshold).astype(np.float64) - (second >= threshold))
    known = ~np.isnan(truth)
    drawn = bootstrap.drawn(lambda weights: {"gap": _ratio_of(gaps, known, weights)})["gap"]
    values = ratio(np.nansum(gaps, axis=0), known.sum(axis=0))
    return estimates(values, drawn, [_no_case(column) for column in truth.T], bootstrap.smaller_class(truth))


def _no_case(truth: np.ndarray) -> str:
    return "" if (~np.isnan(truth)).any() else "no case with known truth"


def _losses(truth: np.ndarray, scores: np.ndarray) -> np.ndarray:
    inner = np.clip(scores, _SMALLEST, 1 - _SMALLEST)
    return np.where(np.isnan(truth), np.nan, -np.log(np.where(truth == 1, inner, 1 - inner)))


def _ratio_of(values: np.ndarray, counted: np.ndarray, weights: Reweighted) -> np.ndarray:
    return ratio(*np.split(weights.sums(np.concatenate([values, counted], axis=1)), 2, axis=1))


def _sums_of(truth: np.ndarray, scores: np.ndarray, weights: Reweighted) -> dict[str, np.ndarray]:
    parts = (truth, (scores - truth) ** 2, _losses(truth, scores), ~np.isnan(truth))
    positive, error, loss, known = np.split(weights.sums(np.concatenate(parts, axis=1)), 4, axis=1)
    mean = ratio(positive, known)
    return {"log_loss": ratio(loss, known), "scaled_brier": 1 - ratio(ratio(error, known), mean * (1 - mean))}
